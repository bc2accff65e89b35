"""Each row of the table of primitives alone: what its code does to hard values.

A row promises an error in units in the last place for results above the smallest normal number.
Rows of half a unit are correctly rounded and keep that promise below it as well.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

import numpy as np

from jit.index import index
from jit.linker import link
from jit.llvm import emit_ir, emit_object
from jit.primitives import PRIMITIVES, Primitive
from jit.program import Buffer, Const, Floats, Load, Param, Program, Store, Value, call, loop
from jit.session import MachineSession
from jit.target import LlvmTarget
from refimpl.bounds import LARGEST, SMALLEST_NORMAL

_ENDS = (0.0, 2.0**-149, 2.0**-127, 2.0**-126, 1e-30, 2.0**-24, 0.25, 0.5, 1.0, 1 + 2.0**-23, 1.5,
         2.0, 3.0, 6.0, 2.0**23 + 1, 1e19, 3e38, LARGEST, np.inf)  # fmt: skip
SPECIAL = np.array([*_ENDS, *(-x for x in _ENDS), np.nan], np.float32)
# Where results or methods change: the ends of exp's range, of its denormals, of polynomials; the
# ends of a mantissa, where log1p adds in vain, erf's series and its 1.
_EDGES = (87.33655, 88.02969, 88.37626, 88.72284, 89.0, 103.27893, 103.97208, 105.0, 0.34657,
          0.5, 1.03972, 5.0, 8.66434, 9.01091, 10.0, 16.0, 17.32868, 0.70711, 1.41421, 1.0,
          2.0**-126, 2.0**24, 0.9, 4.0)  # fmt: skip
_ALL = 16  # values are made in multiples of the widest vector


@dataclass(frozen=True)
class Form:
    """A primitive as it is emitted: of vectors of `width`, its last argument perhaps constant."""

    primitive: str
    width: int
    constant: float | None = None

    @property
    def name(self) -> str:
        """A symbol."""
        suffix = "" if self.constant is None else f"_c{abs(self.constant):.0f}"
        return f"{self.primitive}_v{self.width}{suffix}"

    @property
    def arity(self) -> int:
        """Arguments that are loaded."""
        return PRIMITIVES[self.primitive].arity - (self.constant is not None)

    def program(self) -> Program:
        """y[i] = primitive(a[i], ...) over N values, `width` at a time."""
        place = (index("i") * self.width + index("v"),)
        args: list[Value] = [Load(name, place) for name in "abc"[: self.arity]]
        dtype = _stored(self)
        args += [] if self.constant is None else [Const(self.constant)]
        vector = loop(
            "v", self.width, Store("y", place, call(self.primitive, *args)), kind="vector"
        )
        body = loop("i", index("N") // self.width, vector)
        shape, strides = (index("N"),), (index(1),)
        buffers = [Buffer(name, "read", dtype, shape, strides) for name in "abc"[: self.arity]]
        buffers.append(Buffer("y", "write", "f32", shape, strides))
        return Program(self.name, (Param("N", 1, multiple=self.width),), tuple(buffers), (body,))


def _stored(form: Form) -> Floats:
    """As what the arguments are stored."""
    return "f16" if form.primitive == "widen" else "f32"


def forms(machine: LlvmTarget) -> list[Form]:
    """Every primitive that the target has, in vectors of every width that it has."""
    widths = [w for w in (1, 2, 4, 8, 16) if w <= machine.lanes]
    names = [p.name for p in PRIMITIVES.values() if all(map(machine.has, p.features))]
    found = [Form(name, width) for name in names for width in widths]
    ends = itertools.product(("maximum", "minimum"), widths, (0.0, 6.0))
    return found + [Form(name, width, constant) for name, width, constant in ends]


def arguments(form: Form, seed: int, count: int) -> list[np.ndarray]:
    """Every combination of special values, then random bits, then values near the edges."""
    rng = np.random.default_rng(seed)
    if _stored(form) == "f16":  # there are few enough to try all
        every = np.arange(2**16, dtype=np.uint16)
        return [every.view(np.float16)]
    grid = np.stack(np.meshgrid(*[SPECIAL] * form.arity)).reshape(form.arity, -1)
    bits = rng.integers(0, 2**32, (form.arity, count), dtype=np.uint32).view(np.float32)
    edges = rng.choice(_EDGES, (form.arity, count)) * rng.choice([-1, 1], (form.arity, count))
    near = edges * (1 + rng.standard_normal((form.arity, count)) * 1e-4)
    small = rng.standard_normal((form.arity, count)) * rng.choice([1e-3, 1, 30], count)
    with np.errstate(invalid="ignore"):  # some of the random bits are signalling NaN
        values = np.concatenate([grid, bits, near, small], axis=1).astype(np.float32)
    return list(np.resize(values, (form.arity, -(-values.shape[1] // _ALL) * _ALL)))


class Loaded:
    """All forms of a target on a session."""

    def __init__(self, session: MachineSession, machine: LlvmTarget, level: int):
        self.session, self.forms = session, forms(machine)
        ir = emit_ir([form.program() for form in self.forms], machine)
        self.blob = link([emit_object(ir, machine, level)])
        self.base = session.load(self.blob)

    def run(self, form: Form, args: list[np.ndarray]) -> np.ndarray:
        """y for those arguments."""
        n = args[0].size
        sizes = [*(a.nbytes for a in args), 4 * n]
        buffers = [self.session.alloc(size, guard="end") for size in sizes]
        table = self.session.alloc(8 * len(buffers) + 8)
        for address, array in zip(buffers, args, strict=False):
            self.session.write(address, array)
        self.session.write(table, struct.pack(f"<{len(buffers)}Qq", *buffers, n))
        entry = self.base + self.blob.symbols[form.name]
        self.session.call(entry, (table, table + 8 * len(buffers), 0, 1))
        y = np.frombuffer(self.session.read(buffers[-1], 4 * n), np.float32)
        for address in (*buffers, table):
            self.session.free(address)
        return y


def meant(form: Form, args: list[np.ndarray]) -> np.ndarray:
    """The primitive's meaning in float64."""
    given = [a.astype(np.float64) for a in args]
    constants = [] if form.constant is None else [np.float64(form.constant)]
    return PRIMITIVES[form.primitive].meaning(*given, *constants)


def ulps(computed: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|computed - exact| in units of the last place of exact as a float32; 0 where both are the
    same infinity or NaN, infinity where only one is."""
    with np.errstate(all="ignore"):
        same = (computed == exact) | (np.isnan(computed) & np.isnan(exact))
        exponent = np.maximum(np.frexp(np.where(np.isfinite(exact), exact, 1.0))[1] - 1, -126)
        error = np.abs(computed.astype(np.float64) - exact) / np.ldexp(1.0, exponent - 23)
        return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def worst(primitive: Primitive, computed: np.ndarray, exact: np.ndarray) -> tuple[float, int]:
    """(largest error that counts against the row's promise, in ulp; where it is).

    What is beyond the largest float32 may be that number or infinity, as rounding has it.
    """
    # float64 is rounded too, which matters where the promise is half a unit exactly.
    error = ulps(computed, exact) - 1e-6
    small = np.abs(exact) < SMALLEST_NORMAL
    with np.errstate(all="ignore"):
        if primitive.ulp > 0.5:
            error = np.where(small & (np.abs(computed) <= 2 * SMALLEST_NORMAL), 0.0, error)
        slack = max(primitive.ulp, 0.5) * 2.0**104
        beyond = np.isfinite(exact) & (np.abs(exact) >= LARGEST - slack)
        upper = (np.abs(computed) >= LARGEST - 2 * slack) & (np.sign(computed) == np.sign(exact))
        at_end = (np.abs(exact) < LARGEST + slack) | np.isinf(computed) | (primitive.ulp > 0.5)
    error = np.where(beyond & upper & at_end, 0.0, error)
    place = int(error.argmax())
    return float(error[place]), place


def faults(session: MachineSession, machine: LlvmTarget, level: int, count: int) -> list[str]:
    """Where a primitive is further from its meaning than its row promises, as sentences.

    `level` is LLVM's code generation level, `count` how many random arguments each form gets.
    """
    loaded, found = Loaded(session, machine, level), []
    for form in loaded.forms:
        args = arguments(form, seed=1, count=count)
        computed, exact = loaded.run(form, args), meant(form, args)
        promised = PRIMITIVES[form.primitive]
        error, place = worst(promised, computed, exact)
        if error > promised.ulp:
            given = ", ".join(f"{a[place]:.9g}" for a in args)
            found.append(
                f"{form.name}({given}) is {computed[place]:.9g} instead of {exact[place]:.9g}: "
                f"{error:.3g} ulp, promised {promised.ulp}"
            )
    session.free(loaded.base)
    return found
