"""Depthwise convolutions and elementwise operators in blocks of channels equal NumPy."""

import numpy as np
import pytest
from kernel_runs import Case, check_everywhere, check_opencl, emit_for_every_target

from jit.kernels.channelwise import ElementKernel
from jit.kernels.depthwise import DepthwiseKernel
from jit.kernels.plain import PAIRINGS
from jit.pipeline import lower
from refimpl.layout import Layout
from refimpl.ops import OPERATORS


def strides(letter, layout, shape):
    """Parameters <LETTER>N, C, D, H of a value."""
    names = ["N", "C", *"DHW"[5 - len(shape) : -1]]
    return dict(zip((f"{letter}{a}" for a in names), layout.strides(shape), strict=False))


def inside(flat, layout, shape):
    """Memory from the first element inside the halo on."""
    return np.ascontiguousarray(flat[layout.origin(shape) :])


def packed(array, layout):
    return inside(layout.pack(array), layout, array.shape)


def masked(array, layout):
    """What must be written: the value, and NaN for halo and tail lanes (which mean nothing)."""
    shape = array.shape
    flat = layout.pack(array.astype(np.float64))
    alike = layout.pack(np.ones(shape))
    return inside(np.where(alike == 1, flat, np.nan), layout, shape)


def depthwise_case(kernel, shape, taps, stride, padding, dilation):
    """A DepthwiseKernel case: x of shape (N, C, ...) with a halo as wide as the padding."""
    rng, rank = np.random.default_rng(0), kernel.rank
    x = rng.standard_normal(shape).astype(np.float32)
    channels = shape[1]
    w = rng.standard_normal((channels, 1, *taps)).astype(np.float32)
    bias = rng.standard_normal(channels).astype(np.float32)
    exact = [a.astype(np.float64) for a in (x, w, bias)]
    y = OPERATORS["conv"].evaluate(
        *exact,
        stride=stride,
        padding=((padding, padding),) * rank,
        dilation=dilation,
        groups=channels,
    )
    x_layout = Layout(kernel.block, ((padding, padding),) * rank)
    y_layout = Layout(kernel.block, ((0, 1),) * rank)
    slots = -(-channels // kernel.block) * kernel.block
    by_tap = np.zeros((*taps, slots), np.float32)
    by_tap[..., :channels] = np.moveaxis(w[:, 0], 0, -1)
    padded = np.zeros(slots, np.float32)
    padded[:channels] = bias
    given = {"x": x_layout.pack(x), "w": by_tap.reshape(-1), "bias": padded}
    params = {"N": shape[0], "C": slots}
    params |= strides("X", x_layout, shape) | strides("Y", y_layout, y.shape)
    for i, a in enumerate("DHW"[3 - rank :]):
        params |= {f"O{a}": y.shape[2 + i], f"K{a}": taps[i], f"S{a}": stride[i]}
        params |= {f"T{a}": dilation[i]}
        params[f"I{a}"] = (y.shape[2 + i] - 1) * stride[i] + (taps[i] - 1) * dilation[i] + 1
    if kernel.residual:
        z = rng.standard_normal(y.shape).astype(np.float32)
        y = y + z
        given["z"] = packed(z, y_layout)
        params |= strides("Z", y_layout, y.shape)
    if kernel.activation:
        y = OPERATORS[kernel.activation[0]].evaluate(y)
    return Case(kernel, params, given, {"y": masked(y, y_layout)})


DEPTHWISE = [
    depthwise_case(
        DepthwiseKernel(2, 4, 3, 3, 1, 1, ("relu", ()), False, True),
        *((2, 8, 5, 6), (3, 3), (1, 1), 1, (1, 1)),
    ),
    depthwise_case(
        DepthwiseKernel(2, 16, 2, 5, 2, 2, None, True, True),
        *((1, 16, 9, 11), (2, 5), (3, 2), 2, (1, 2)),
    ),
    depthwise_case(
        DepthwiseKernel(1, 8, 1, 4, 1, 3, ("sigmoid", ()), True, False),
        *((2, 8, 13), (4,), (1,), 0, (3,)),
    ),
    depthwise_case(
        DepthwiseKernel(3, 4, 4, 3, 1, 1, None, False, True),
        *((1, 4, 3, 4, 4), (2, 3, 3), (1, 2, 1), 1, (2, 1, 1)),
    ),
    depthwise_case(
        DepthwiseKernel(2, 1, 2, 3, 1, 1, None, False, True),
        *((1, 3, 4, 6), (3, 3), (1, 1), 1, (1, 1)),
    ),
]

PAIRS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "prelu": lambda x, z: np.where(x > 0, x, z * x),
}


def element_case(kernel, shape, z_shape):
    """An ElementKernel case of two operands; z_shape may have ones where z is repeated."""
    rng = np.random.default_rng(1)
    x, z = (rng.standard_normal(s).astype(np.float32) for s in (shape, z_shape))
    y = PAIRS[kernel.op](x.astype(np.float64), z.astype(np.float64))
    halo = Layout(kernel.block, ((1, 0),) * kernel.rank)
    bare = Layout(kernel.block, ((0, 0),) * kernel.rank)
    params = {"N": shape[0], "C": shape[1]}
    params |= dict(zip(("OD", "OH", "OW")[3 - kernel.rank :], shape[2:], strict=True))
    params |= strides("X", halo, shape) | strides("Y", bare, shape)
    steps = bare.strides(z_shape)
    letters = ["N", "C", *"DHW"[3 - kernel.rank :]]
    for letter, extent, step in zip(letters, z_shape, steps, strict=True):
        params[f"Z{letter}"] = step if extent > 1 or not kernel.broadcast else 0
    given = {"x": packed(x, halo), "z": packed(z, bare)}
    return Case(kernel, params, given, {"y": masked(y, bare)})


ELEMENTS = [
    *(
        element_case(ElementKernel(2, 4, op, None, True), (2, 4, 3, 5), (2, 4, 3, 5))
        for op in PAIRINGS
    ),
    *(
        element_case(
            ElementKernel(2, 8, op, None, True, broadcast=True), (2, 16, 3, 5), (2, 16, 1, 1)
        )
        for op in ("mul", "div", "prelu")
    ),
    element_case(
        ElementKernel(3, 4, "add", None, True, broadcast=True), (1, 4, 2, 3, 2), (1, 4, 2, 1, 2)
    ),
    element_case(ElementKernel(1, 4, "mul", None, True, broadcast=True), (3, 4, 5), (1, 4, 5)),
    element_case(ElementKernel(0, 4, "mul", None, True, broadcast=True), (3, 4), (1, 4)),
]
ALL = [*DEPTHWISE, *ELEMENTS]


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.kernel.name)
def test_every_stage_and_the_code_equal_numpy(case):
    check_everywhere(case)


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.kernel.name)
def test_the_grid_equals_numpy(case, device):
    check_opencl(case, device)


@pytest.mark.parametrize("case", [*DEPTHWISE, ELEMENTS[-3]], ids=lambda c: c.kernel.name)
def test_every_target_compiles_it(case):
    emit_for_every_target(case.kernel)


def test_a_tap_loads_its_weights_once_for_the_tile():
    text = str(lower(DEPTHWISE[0].kernel).program)
    assert text.count(" = w[") == 1
    assert "acc = registers(3, 4)" in text
