"""Plans of one step, and float arithmetic emulated in every order that was thought of."""

from functools import partial

import numpy as np

from jit.primitives import PRIMITIVES
from refimpl.bounds import Arithmetic, bounded_step
from refimpl.layout import plain
from refimpl.ops import OPERATORS
from refimpl.plan import Place, Plan, Step

ULPS = {name: primitive.ulp for name, primitive in PRIMITIVES.items()}
FUSED, PLAIN = Arithmetic(ULPS, fused=True), Arithmetic(ULPS, fused=False)
FLUSHING = Arithmetic(ULPS, fused=False, flush=True)
f32 = np.float32


def one_step(op, arrays, machine=PLAIN, **attributes):
    """(exact, bound) of one operator of the Graph as a step on these arrays."""
    names = tuple(f"x{i}" for i in range(len(arrays)))
    shape = OPERATORS[op].shape([a.shape for a in arrays], attributes)
    places = {
        n: Place(a.shape, plain(a.shape), "input") for n, a in zip(names, arrays, strict=True)
    }
    places["y"] = Place(shape, plain(shape), "output")
    step = Step("y", op, names, tuple(sorted(attributes.items())))
    plan = Plan("one", "host", 1, names, ("y",), places, (step,), {}, {}, 0)
    return bounded_step(plan, step, dict(zip(names, arrays, strict=True)), machine)


def within(computed, exact, bound):
    """Assert that a value is as near as the bound says; return the largest share of it used."""
    judged = np.isfinite(bound)
    computed = np.float64(computed)
    same = (computed == exact) | (np.isnan(computed) & np.isnan(exact))
    with np.errstate(all="ignore"):
        error = np.where(same, 0.0, np.abs(computed - exact))
        assert (same | ~judged | (error <= bound)).all(), float(np.nanmax(error / bound))
        return float(np.where(judged & (bound > 0) & ~same, error / bound, 0.0).max(initial=0))


def drawn(rng, shape, kind):
    """float32 numbers: tame, of wildly different size, cancelling, tiny or huge."""
    x = rng.standard_normal(shape)
    match kind:
        case "wild":
            x = x * 10.0 ** rng.integers(-12, 12, shape)
        case "cancelling":
            x = 1000 + x
        case "tiny":
            x = x * 1e-22
        case "huge":
            x = x * 1e17
        case "denormal":
            x = x * 1e-40
    return x.astype(f32)


KINDS = ("tame", "wild", "cancelling", "tiny", "huge", "denormal")


def forwards(x):
    """Sum over the last axis, one after another, in x's own type."""
    total = np.zeros(x.shape[:-1], x.dtype)
    for i in range(x.shape[-1]):
        total = total + x[..., i]
    return total


def pairwise(x):
    """Neighbours, then neighbours of their sums."""
    while x.shape[-1] > 1:
        odd = x[..., x.shape[-1] // 2 * 2 :]
        x = np.concatenate([x[..., : x.shape[-1] // 2 * 2 : 2] + x[..., 1::2], odd], axis=-1)
    return x[..., 0]


def strided(x, ways):
    """Partial sums of every n-th, backwards, then the sum of these."""
    return forwards(np.stack([forwards(x[..., i::ways][..., ::-1]) for i in range(ways)], axis=-1))


SUMS = (forwards, pairwise, partial(strided, ways=4))


def ulped(rng, exact, name):
    """A function's float64 results as float32 code may have them: wrong by up to its ulps."""
    near = np.asarray(exact).astype(f32)
    # To the nearest is half an ulp already.
    off = rng.uniform(-1, 1, near.shape) * (ULPS[name] - 0.5)
    return (np.float64(near) + off * np.float64(np.spacing(near))).astype(f32)
