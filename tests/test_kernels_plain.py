"""Kernels over plain arrays equal NumPy at every stage, on awkward sizes and strides."""

import numpy as np
import pytest
from kernel_runs import (
    Case,
    check_everywhere,
    check_opencl,
    emit_for_every_target,
    memory,
    named,
    placed,
)

from jit.kernels.gather import BlendKernel, EmbeddingKernel, TakeKernel
from jit.kernels.plain import PAIRINGS, MapKernel, ReduceKernel

FUNCTIONS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "prelu": lambda x, z: np.where(x > 0, x, z * x),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def dense(shape):
    """Strides of a contiguous array."""
    strides = [1]
    for extent in reversed(shape[1:]):
        strides.append(strides[-1] * extent)
    return tuple(reversed(strides))


def map_case(kernel, shape, x_strides, y_strides, z_strides=None):
    """A MapKernel case; strides in elements, one per axis."""
    axes = [str(a) for a in range(len(shape))]
    given, params = {}, named("E", axes, shape)
    x = z = None
    if kernel.op != "fill":
        given["x"], x = memory(rng(1), shape, x_strides)
        params |= named("X", axes, x_strides)
    if z_strides is not None:
        given["z"], z = memory(rng(2), shape, z_strides)
        params |= named("Z", axes, z_strides)
    params |= named("Y", axes, y_strides)
    y = np.full(shape, kernel.value) if x is None else x.astype(np.float64)
    if z is not None:
        y = FUNCTIONS[kernel.op](y, z.astype(np.float64))
    if kernel.activation:
        y = np.maximum(y, 0)
    return Case(kernel, params, given, {"y": placed(y, y_strides)})


SIX = (2, 1, 3, 1, 2, 3)
MAPS = [
    map_case(MapKernel(1, "copy"), (7,), (3,), (2,)),
    map_case(MapKernel(1, "fill", value=-1.5), (5,), (0,), (2,)),
    map_case(MapKernel(3, "copy"), (3, 5, 2), (1, 6, 3), (10, 2, 1)),  # a transpose
    map_case(MapKernel(2, "copy", ("relu", ()), lanes=4), (3, 8), (9, 1), (11, 1)),
    map_case(MapKernel(2, "add", lanes=8), (3, 16), (16, 1), (16, 1), (0, 1)),
    map_case(MapKernel(2, "mul", lanes=4, z_constant=True), (5, 8), (8, 1), (9, 1), (1, 0)),
    map_case(MapKernel(1, "sub", lanes=4, z_constant=True), (12,), (1,), (1,), (0,)),
    map_case(MapKernel(2, "sub", z_constant=True), (5, 3), (3, 1), (3, 1), (2, 0)),
    map_case(
        MapKernel(4, "add", ("relu", ())), (2, 3, 1, 5), (0, 5, 0, 1), (15, 5, 5, 1), (7, 2, 9, 0)
    ),
    map_case(MapKernel(6, "add"), SIX, dense(SIX), dense(SIX), (9, 0, 3, 0, 0, 1)),
    map_case(MapKernel(3, "fill", lanes=16, value=0.25), (2, 3, 16), (0, 0, 0), (60, 17, 1)),
    *(map_case(MapKernel(2, op), (3, 5), (5, 1), (5, 1), (1, 3)) for op in PAIRINGS),
]  # fmt: skip


def reduce_case(kernel, outer, inner, x_strides, y_strides):
    """A ReduceKernel case; x_strides are of the outer axes, then of the inner ones."""
    flat, x = memory(rng(3), (*outer, *inner), x_strides)
    axes = tuple(range(len(outer), len(outer) + len(inner)))
    functions = {"add": np.sum, "maximum": np.max, "minimum": np.min}
    y = functions[kernel.op](x.astype(np.float64), axis=axes)
    if kernel.mean:
        y = y / np.prod(inner)
    o, r = ([str(a) for a in range(len(e))] for e in (outer, inner))
    params = named("E", o, outer) | named("R", r, inner) | named("Y", o, y_strides)
    params |= named("X", o, x_strides[: len(outer)]) | named("XR", r, x_strides[len(outer) :])
    return Case(kernel, params, {"x": flat}, {"y": placed(y, y_strides)})


REDUCTIONS = [
    reduce_case(ReduceKernel(1, 1, "add"), (3,), (7,), (7, 1), (1,)),
    reduce_case(ReduceKernel(2, 2, "add", mean=True), (2, 3), (5, 4), (60, 1, 12, 3), (4, 1)),
    reduce_case(ReduceKernel(1, 3, "maximum"), (1,), (2, 3, 4), (24, 12, 4, 1), (1,)),
    reduce_case(ReduceKernel(1, 1, "add", lanes=4), (3,), (11,), (11, 1), (1,)),
    reduce_case(ReduceKernel(1, 2, "maximum", lanes=16), (2,), (3, 35), (105, 35, 1), (1,)),
    reduce_case(ReduceKernel(1, 2, "add", True, lanes=8), (2,), (2, 5), (10, 5, 1), (2,)),
    reduce_case(ReduceKernel(3, 1, "minimum"), (2, 1, 3), (5,), (15, 15, 1, 3), (3, 3, 1)),
]


def take_case(kernel, shape, table, x_strides, y_strides):
    """A TakeKernel case; shape is (O, V, I) of x."""
    flat, x = memory(rng(4), shape, x_strides)
    o, v, i = shape
    params = {"O": o, "J": len(table), "I": i, "V": v}
    params |= named("X", "OJI", x_strides) | named("Y", "OJI", y_strides)
    y = placed(x[:, table].astype(np.float64), y_strides)
    return Case(kernel, params, {"x": flat, "table": np.array(table, np.int32)}, {"y": y})


def blend_case(kernel, shape, outputs, x_strides, y_strides):
    """A BlendKernel case between random neighbours."""
    flat, x = memory(rng(5), shape, x_strides)
    o, v, i = shape
    low = rng(6).integers(0, v, outputs).astype(np.int32)
    high = np.minimum(low + 1, v - 1).astype(np.int32)
    w1 = rng(7).uniform(0, 1, outputs).astype(np.float32)
    w0 = np.float32(1) - w1
    exact = x.astype(np.float64)
    y = exact[:, low] * w0[:, None].astype(float) + exact[:, high] * w1[:, None].astype(float)
    params = {"O": o, "J": outputs, "I": i, "V": v}
    params |= named("X", "OJI", x_strides) | named("Y", "OJI", y_strides)
    given = {"x": flat, "lo": low, "hi": high, "w0": w0, "w1": w1}
    return Case(kernel, params, given, {"y": placed(y, y_strides)})


def embedding_case(kernel, indices, shape, table_strides, y_strides, seen=None):
    """An EmbeddingKernel case; `seen` are the rows that are meant where indices are wrong."""
    flat, table = memory(rng(8), shape, table_strides)
    y = placed(table[indices if seen is None else seen].astype(np.float64), y_strides)
    params = {"M": len(indices), "C": shape[1], "V": shape[0]}
    params |= named("T", "VC", table_strides) | named("Y", "MC", y_strides)
    given = {"table": flat, "index": np.array(indices, np.int32)}
    return Case(kernel, params, given, {"y": y})


GATHERS = [
    take_case(TakeKernel(), (2, 5, 3), [4, 3, 2, 1, 0], (15, 3, 1), (15, 3, 1)),
    take_case(TakeKernel(), (3, 4, 1), [2, 2, 0], (1, 3, 5), (3, 1, 1)),
    take_case(TakeKernel(lanes=4), (2, 3, 8), [1, 0, 2, 2, 1], (24, 8, 1), (45, 9, 1)),
    blend_case(BlendKernel(fused=True), (2, 4, 3), 7, (12, 3, 1), (21, 3, 1)),
    blend_case(BlendKernel(fused=False, lanes=8), (1, 3, 16), 5, (48, 16, 1), (80, 16, 1)),
    embedding_case(EmbeddingKernel(), [3, 0, 0, 6], (7, 5), (5, 1), (6, 1)),
    embedding_case(EmbeddingKernel(lanes=4), [1, 2, 0], (3, 8), (9, 1), (8, 1)),
    embedding_case(EmbeddingKernel(), [-3, 9, 2**30], (7, 5), (5, 1), (5, 1), seen=[0, 6, 6]),
]

ALL = [*MAPS, *REDUCTIONS, *GATHERS]


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.kernel.name)
def test_every_stage_and_the_code_equal_numpy(case):
    check_everywhere(case)


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.kernel.name)
def test_the_grid_equals_numpy(case, device):
    check_opencl(case, device)


@pytest.mark.parametrize("case", ALL[3:-1:4], ids=lambda c: c.kernel.name)
def test_every_target_compiles_it(case):
    emit_for_every_target(case.kernel)


def test_reductions_and_maps_carry_nan():
    x = np.array([1, np.nan, 3, 4, 5, 6], np.float32)
    for op in ("add", "maximum", "minimum"):
        params = {"E0": 2, "R0": 3, "X0": 3, "XR0": 1, "Y0": 1}
        wanted = {"add": [np.nan, 15], "maximum": [np.nan, 6], "minimum": [np.nan, 4]}[op]
        check_everywhere(Case(ReduceKernel(1, 1, op), params, {"x": x}, {"y": np.array(wanted)}))
    for op in PAIRINGS:
        params = {"E0": 6, "X0": 1, "Z0": 1, "Y0": 1}
        y = FUNCTIONS[op](x.astype(float), np.full(6, 2.0))
        given = {"x": x, "z": np.full(6, 2, np.float32)}
        check_everywhere(Case(MapKernel(1, op), params, given, {"y": y}))
