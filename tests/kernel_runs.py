"""What the tests of kernels share: one kernel at every stage, on the host and through OpenCL.

A case gives flat memory for every buffer; what the kernel must leave in those it writes is given
as NaN where nothing may be written.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain

import numpy as np
from numpy.lib.stride_tricks import as_strided

from jit.checker import check
from jit.host import HostSession
from jit.interpreter import Memory, interpret
from jit.linker import link
from jit.llvm import emit_ir, emit_object
from jit.opencl.emitter import emit_source
from jit.opencl.grid import work_items
from jit.opencl.runtime import OpenCLSession
from jit.pipeline import Kernel, lower
from jit.program import Program
from jit.program_text import parse
from jit.shares import divide, extents, whole
from jit.target import LlvmTarget, OpenCLTarget, host_target, target, target_names

Arrays = Mapping[str, np.ndarray]


@dataclass
class Case:
    """A kernel, its parameters but for rooms, and flat arrays by buffer."""

    kernel: Kernel
    params: dict[str, int]
    given: Arrays
    wanted: Arrays


def memory(rng: np.random.Generator, shape: tuple[int, ...], strides: tuple[int, ...]):
    """(flat float32 memory that just holds a view of those strides, the view)."""
    size = 1 + sum((e - 1) * s for e, s in zip(shape, strides, strict=True))
    flat = rng.standard_normal(size).astype(np.float32)
    return flat, view(flat, shape, strides)


def view(flat: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """The memory as an array with strides in elements."""
    return as_strided(flat, shape, [s * flat.itemsize for s in strides])


def placed(array: np.ndarray, strides: tuple[int, ...], slack: int = 0) -> np.ndarray:
    """Flat float64 memory that holds the array with those strides, NaN elsewhere."""
    size = 1 + slack + sum((e - 1) * s for e, s in zip(array.shape, strides, strict=True))
    flat = np.full(size, np.nan)
    view(flat, array.shape, strides)[...] = array
    return flat


def named(letter: str, axes: str | list[str], numbers: tuple[int, ...]) -> dict[str, int]:
    """Parameters <LETTER><AXIS> with those numbers."""
    return {f"{letter}{a}": n for a, n in zip(axes, numbers, strict=True)}


def check_everywhere(case: Case, tolerance: float = 1e-5) -> None:
    """Every form equals what is wanted in the interpreter; the last one as code of the host."""
    for entry in lower(case.kernel).entries:
        check(entry.program)
        assert parse(str(entry.program)) == entry.program, entry.name
        _same(case, interpreted(entry.program, case), 1e-12, entry.name)
    for name in ("x86-64-sse", "x86-64-avx2", "x86-64-avx512"):
        machine = target(name)
        assert isinstance(machine, LlvmTarget)
        if not set(machine.features) <= set(host_target().features):
            continue
        kernel = case.kernel
        if hasattr(kernel, "fused"):
            kernel = replace(kernel, fused=machine.has("fma"))
        _same(case, on_host(lower(kernel).program, case, machine), tolerance, name)


def check_opencl(case: Case, session: OpenCLSession, tolerance: float = 1e-5) -> None:
    """The grid form equals what is wanted, interpreted and on the OpenCL device."""
    kernel = replace(case.kernel, grid=True)
    for entry in lower(kernel).entries:
        _same(case, interpreted(entry.program, case), 1e-12, entry.name)
    _same(case, _on_opencl(lower(kernel).program, case, session), tolerance, "opencl")


def emit_for_every_target(kernel: Kernel) -> None:
    """The kernel compiles for every target; LLVM verifies it and makes an object."""
    for name in target_names():
        machine = target(name)
        if isinstance(machine, OpenCLTarget):
            emit_source([lower(replace(kernel, grid=True)).program], machine)
        elif isinstance(machine, LlvmTarget):
            mine = replace(kernel, fused=machine.has("fma")) if hasattr(kernel, "fused") else kernel
            assert emit_object(emit_ir([lower(mine).program], machine), machine, 0)


def _same(case: Case, found: Arrays, tolerance: float, where: str) -> None:
    for name, wanted in case.wanted.items():
        np.testing.assert_allclose(
            found[name], wanted, rtol=tolerance, atol=tolerance, err_msg=f"{name}: {where}"
        )


def _params(program: Program, case: Case) -> dict[str, int]:
    rooms = {
        f"{name.upper()}L": array.size for name, array in {**case.given, **case.wanted}.items()
    }
    known = {**rooms, **case.params}
    return {p.name: known[p.name] for p in program.params}


def _start(program: Program, case: Case) -> dict[str, np.ndarray]:
    blank = {name: np.full(a.size, np.nan, np.float32) for name, a in case.wanted.items()}
    known = {**blank, **case.given}
    return {b.name: known[b.name] for b in program.buffers}


def interpreted(program: Program, case: Case) -> Arrays:
    held = {}
    for name, array in _start(program, case).items():
        exact = array.astype(np.float64) if array.dtype == np.float32 else array
        held[name] = Memory.holding(exact)
        if name not in case.given:
            held[name] = Memory.blank(array.size)
    interpret(program, _params(program, case), held)
    return {name: held[name].data for name in case.wanted}


@cache
def _host() -> HostSession:
    return HostSession()


def on_host(program: Program, case: Case, machine: LlvmTarget) -> Arrays:
    session = _host()
    blob = link([emit_object(emit_ir([program], machine), machine)])
    code = session.load(blob)
    arrays = _start(program, case)
    places = {name: session.alloc(a.nbytes, guard="end") for name, a in arrays.items()}
    for name, address in places.items():
        session.write(address, arrays[name])
    params = _params(program, case)
    words = [*places.values(), *params.values()]
    table = session.alloc(8 * (len(words) + 2 * len(extents(program))))
    for share in divide(
        whole(extents(program), params), 3
    ):  # the shares of three tasks are the whole
        filled = [*words, *chain.from_iterable(share)]
        session.write(table, struct.pack(f"<{len(filled)}q", *filled))
        session.call(code + blob.symbols[program.name], (table, table + 8 * len(places)))
    found = {
        n: np.frombuffer(session.read(places[n], a.nbytes), a.dtype) for n, a in arrays.items()
    }
    for address in (*places.values(), table, code):
        session.free(address)
    return found


def _on_opencl(program: Program, case: Case, session: OpenCLSession) -> Arrays:
    machine = target("opencl")
    assert isinstance(machine, OpenCLTarget)
    built = session.cl.Kernel(session.build(emit_source([program], machine)), program.name)
    arrays = _start(program, case)
    places = {name: session.buffer(a.nbytes) for name, a in arrays.items()}
    for name, buffer in places.items():
        session.write(buffer, arrays[name])
    params = _params(program, case)
    words = [part for buffer in places.values() for part in (buffer, np.int32(0))]
    for i, word in enumerate([*words, *(np.int32(n) for n in params.values())]):
        built.set_arg(i, word)
    items = work_items(program, params)
    session.call([(built, items)], runs=1, warmup=0, count=False, timeout_s=60)
    return {
        n: np.frombuffer(session.read(places[n], 0, a.nbytes), a.dtype) for n, a in arrays.items()
    }
