"""Pooling and resampling against torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator
from operators import ATTEMPTS, SEEDS, agree, both_sides, draw_array, per_axis, run, spatial_sizes


@st.composite
def pools(draw, dilated):
    """Input shape and window of pools that torch accepts, too: padding at most half a window."""
    rank = draw(st.integers(1, 3))
    kernel, stride = per_axis(draw, rank, 1, 4), per_axis(draw, rank, 1, 4)
    dilation = per_axis(draw, rank, 1, 2) if dilated else (1,) * rank
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    spatial = spatial_sizes(draw, kernel, dilation, padding)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *spatial)
    return shape, kernel, stride, padding, dilation, draw(st.booleans())


@ATTEMPTS
@given(pools(dilated=True), st.sampled_from([0.0, np.nan, np.inf, -np.inf]), SEEDS)
def test_max_pool_is_torch_max_pool(case, planted, seed):
    shape, kernel, stride, padding, dilation, ceil_mode = case
    x = draw_array(seed, shape)
    x.flat[seed % x.size] = planted
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    theirs = pool(torch.from_numpy(x), kernel, stride, padding, dilation, ceil_mode)
    window = {"kernel": kernel, "stride": stride, "dilation": dilation}
    agree(run("max_pool", x, **window, padding=both_sides(padding), ceil_mode=ceil_mode), theirs)


@ATTEMPTS
@given(pools(dilated=False), st.booleans(), SEEDS)
def test_avg_pool_is_torch_avg_pool(case, count_include_pad, seed):
    shape, kernel, stride, padding, _, ceil_mode = case
    # torch's avg_pool3d alone refuses a window that fits only thanks to the padding.
    assume(len(kernel) < 3 or all(s >= k for s, k in zip(shape[2:], kernel, strict=True)))
    x = draw_array(seed, shape)
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    theirs = pool(torch.from_numpy(x), kernel, stride, padding, ceil_mode, count_include_pad)
    flags = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    pads = both_sides(padding)
    agree(run("avg_pool", x, kernel=kernel, stride=stride, padding=pads, **flags), theirs)


@ATTEMPTS
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=3), SEEDS)
def test_adaptive_pools_are_torchs(axes, seed):
    x, output = draw_array(seed, (2, 3, *(s for s, _ in axes))), tuple(o for _, o in axes)
    rank = len(axes) - 1
    average = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[rank]
    maximum = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[rank]
    agree(run("adaptive_avg_pool", x, output=output), average(torch.from_numpy(x), output))
    agree(run("adaptive_max_pool", x, output=output), maximum(torch.from_numpy(x), output))


@pytest.mark.parametrize(
    ("mode", "coordinates"), [("nearest", "asymmetric"), ("nearest-exact", "half_pixel")]
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 13, 24, 31, 49])
def test_nearest_reads_what_torch_reads_at_every_size(mode, coordinates, size):
    """Also where the rounding of the position decides, as at 31 to 49."""
    x = np.arange(size, dtype=np.float64).reshape(1, 1, size)
    a = torch.from_numpy(x).float()
    how = {"mode": "nearest", "coordinates": coordinates}
    for output in range(1, 120):
        ours = run("upsample", x, output=(output,), ratio=(size / output,), **how)
        agree(ours, F.interpolate(a, output, mode=mode).double())
    for factor in (2.0, 1.5, 3.3, 1 / 0.3):
        theirs = F.interpolate(a, scale_factor=factor, mode=mode).double()
        agree(
            run("upsample", x, output=tuple(theirs.shape[2:]), ratio=(1 / factor,), **how), theirs
        )


@ATTEMPTS
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=3), SEEDS)
def test_linear_resampling_is_torchs(axes, seed):
    sizes, output = tuple(zip(*axes, strict=True))
    x = draw_array(seed, (2, 3, *sizes))
    mode = ("linear", "bilinear", "trilinear")[len(axes) - 1]
    half = tuple(s / o for s, o in axes)
    corners = tuple((s - 1) / max(o - 1, 1) for s, o in axes)
    for name, ratio in (("half_pixel", half), ("align_corners", corners)):
        ours = run("upsample", x, output=output, ratio=ratio, mode="linear", coordinates=name)
        a = torch.from_numpy(x)
        agree(ours, F.interpolate(a, output, mode=mode, align_corners=name == "align_corners"))


@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("output", [(3, 11), (10, 10), (1, 3)])
def test_linear_resampling_is_that_of_onnx(coordinates, output):
    x = draw_array(0, (1, 2, 5, 6))
    node = helper.make_node(
        "Resize",
        ["x", "", "", "sizes"],
        ["y"],
        mode="linear",
        coordinate_transformation_mode=coordinates,
    )
    sizes = np.array([1, 2, *output])
    (theirs,) = ReferenceEvaluator(node).run(None, {"x": x, "sizes": sizes})
    ratio = tuple(s / o for s, o in zip(x.shape[2:], output, strict=True))
    if coordinates == "align_corners":
        ratio = tuple((s - 1) / max(o - 1, 1) for s, o in zip(x.shape[2:], output, strict=True))
    ours = run("upsample", x, output=output, ratio=ratio, mode="linear", coordinates=coordinates)
    agree(ours, theirs)
