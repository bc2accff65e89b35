"""Roots, logarithms and erf keep their promises over many float32, on every CPU target here."""

import math

import numpy as np
import pytest
from numpy.polynomial import Chebyshev, Polynomial

from conformance.primitives import SPECIAL, Form, Loaded, meant, worst
from jit.host import HostSession
from jit.linker import link
from jit.llvm import emit_ir, emit_object
from jit.polynomials import ERF_EDGE, ERF_END, ERF_TAIL
from jit.primitives import PRIMITIVES
from jit.target import host_target, llvm_target, target_names

NEW = ("abs", "neg", "sqrt", "log", "log1p", "erf")
TARGETS = [n for n in target_names() if n.startswith("x86-64")]


def arguments(seed: int) -> np.ndarray:
    """Special values, random bits, and values around where methods and ranges change."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**32, 1 << 16, dtype=np.uint32).view(np.float32)
    edges = (ERF_EDGE, ERF_END, math.sqrt(0.5), math.sqrt(2), 1.0, 2.0**-126, 2.0**24)
    near = rng.choice(edges, 1 << 14) * (1 + rng.standard_normal(1 << 14) * 1e-5)
    spans = [rng.uniform(lo, hi, 1 << 15) for lo, hi in ((-1, 1), (0.4, 2.5), (-6, 6), (0, 1e-6))]
    with np.errstate(invalid="ignore"):  # signalling NaN among the bits
        values = np.concatenate([SPECIAL, bits, near, -near, *spans]).astype(np.float32)
    return values[: values.size // 16 * 16]


@pytest.mark.parametrize("name", TARGETS)
def test_errors_stay_within_what_is_promised(name):
    machine = llvm_target(name)
    if not set(machine.features) <= set(host_target().features):
        pytest.skip(f"this CPU cannot run code for {name}")
    with HostSession() as session:
        loaded = Loaded(session, machine, 2)
        for primitive in NEW:
            for width in (1, machine.lanes):
                form, x = Form(primitive, width), arguments(width)
                error, place = worst(PRIMITIVES[primitive], loaded.run(form, [x]), meant(form, [x]))
                assert error <= PRIMITIVES[primitive].ulp, f"{form.name}({x[place]!r})"


@pytest.mark.parametrize("name", [n for n in target_names() if n not in ("host", "opencl")])
def test_no_target_needs_a_library(name):
    machine = llvm_target(name)
    forms = [Form(primitive, width) for primitive in NEW for width in (1, 4)]
    blob = link([emit_object(emit_ir([f.program() for f in forms], machine), machine)])
    assert {form.name for form in forms} <= set(blob.symbols)


def test_the_fitted_polynomial_can_be_derived():
    def log_of_tail(t):
        return math.log(math.erfc(t))

    fitted = Chebyshev.interpolate(
        np.vectorize(log_of_tail), len(ERF_TAIL) - 1, domain=[ERF_EDGE, ERF_END]
    )
    t = np.linspace(ERF_EDGE, ERF_END, 1001)
    np.testing.assert_allclose(Polynomial(ERF_TAIL)(t), fitted(t), atol=2e-6)
