"""Resize and Upsample: what the Graph's `upsample` can say, and any nearest neighbour."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.indexing import look_up, take_range
from refimpl.importers.onnx.operands import Operand

Coordinates = Literal["half_pixel", "align_corners", "asymmetric"]

_ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda p: np.ceil(p - 0.5),
    "round_prefer_ceil": lambda p: np.floor(p + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


_LONGEST = 2**24


@dataclass(frozen=True)
class _Axis:
    """How one axis changes: its size after, and the steps of the input per step of the output."""

    size: int
    ratio: float


def upsample(call: Call) -> Operand:
    """Upsample: scales are an attribute before opset 9; positions are o / scale, rounded down."""
    x = call.operand(0)
    scales = call.attribute("scales") if call.opset < 9 else _floats(call, 1)
    axes = _scaled_axes(call, x, scales, tuple(range(len(x.shape))))
    return _resampled(call, x, axes, call.attribute("mode", "nearest"), "asymmetric", "floor")


def resize(call: Call) -> Operand:
    """Resize; before opset 11 what Upsample is."""
    x = call.operand(0)
    mode = call.attribute("mode", "nearest")
    if call.opset < 11:
        axes = _scaled_axes(call, x, _floats(call, 1), tuple(range(len(x.shape))))
        return _resampled(call, x, axes, mode, "asymmetric", "floor")
    # Cubic's, those of cropping, and what at the edges only cubic could tell from clamping.
    call.without_effect("cubic_coeff_a", "extrapolation_value", "exclude_outside")
    call.given(1)  # the region of interest, of cropping
    axes, coordinates = _axes(call, x), _coordinates(call)
    shrinks = any(axis.size < size for axis, size in zip(axes, x.shape, strict=True))
    call.require(
        not (call.attribute("antialias", 0) and shrinks), "antialias=1 has no counterpart here"
    )
    rounding = call.attribute("nearest_mode", "round_prefer_floor")
    call.require(rounding in _ROUNDINGS, f"nearest_mode={rounding!r} is unknown")
    return _resampled(call, x, axes, mode, coordinates, rounding)


def _coordinates(call: Call) -> Coordinates:
    mode = call.attribute("coordinate_transformation_mode", "half_pixel")
    # It differs from half_pixel only where the output has one place.
    mode = "half_pixel" if mode == "pytorch_half_pixel" else mode
    if mode not in ("half_pixel", "align_corners", "asymmetric"):
        call.refuse(f"coordinate_transformation_mode={mode!r} has no counterpart here")
    return mode


def _axes(call: Call, x: Operand) -> list[_Axis]:
    """Every axis of x, from `scales` or from `sizes`."""
    rank = len(x.shape)
    axes = call.axes(call.attribute("axes", range(rank)), rank)
    if call.given(2) and call.known(2, "scales").size:
        call.require(not (call.given(3) and call.known(3, "sizes").size), "has scales and sizes")
        call.only("keep_aspect_ratio_policy", "stretch", "not_larger", "not_smaller")
        found = _scaled_axes(call, x, _floats(call, 2), axes)
    else:
        found = _sized_axes(call, x, axes)
    return _checked_ratios(call, x, found)


def _checked_ratios(call: Call, x: Operand, axes: list[_Axis]) -> list[_Axis]:
    """With aligned corners the ratio follows from the sizes, which the scale must make whole."""
    if call.attribute("coordinate_transformation_mode", "half_pixel") != "align_corners":
        return axes
    for axis, size in zip(axes, x.shape, strict=True):
        call.require(
            math.isclose(axis.size * axis.ratio, size, rel_tol=1e-6),
            f"align_corners with a scale that makes {size / axis.ratio:g} of {size} is read "
            "in different ways; give sizes instead of scales",
        )
    return [
        axis if axis.size == size else _Axis(axis.size, (size - 1) / max(axis.size - 1, 1))
        for axis, size in zip(axes, x.shape, strict=True)
    ]


def _scaled_axes(
    call: Call, x: Operand, scales: tuple[float, ...], axes: tuple[int, ...]
) -> list[_Axis]:
    call.require(len(scales) == len(axes), f"{len(scales)} scales are not {len(axes)}")
    found = [_Axis(size, 1.0) for size in x.shape]
    for axis, scale in zip(axes, scales, strict=True):
        call.require(0 < scale < math.inf, f"scale {scale} is not positive")
        # In float32, as ONNX infers shapes: 0.7 * 10 is 7 there.
        size = math.floor(np.float32(scale) * np.float32(x.shape[axis]))
        found[axis] = _Axis(size, 1.0 / scale)
    return found


def _sized_axes(call: Call, x: Operand, axes: tuple[int, ...]) -> list[_Axis]:
    sizes = call.ints(3, "sizes")
    call.require(len(sizes) == len(axes), f"sizes {sizes} are not {len(axes)}")
    call.require(min(sizes, default=1) > 0, f"sizes {sizes} are not all 1 or more")
    policy = call.attribute("keep_aspect_ratio_policy", "stretch")
    found = [_Axis(size, 1.0) for size in x.shape]
    scales = [size / x.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    if policy in ("not_larger", "not_smaller"):
        scale = (min if policy == "not_larger" else max)(scales)
        sizes = tuple(math.floor(scale * x.shape[axis] + 0.5) for axis in axes)
        scales = [scale] * len(axes)
    else:
        call.require(policy == "stretch", f"keep_aspect_ratio_policy={policy!r} is unknown")
    for axis, size, scale in zip(axes, sizes, scales, strict=True):
        found[axis] = _Axis(size, 1.0 / scale)
    return found


def _floats(call: Call, position: int) -> tuple[float, ...]:
    array = call.known(position, "scales")
    call.require(array.dtype.kind == "f" and array.ndim == 1, "scales are not a list of floats")
    return tuple(float(v) for v in array)


def _resampled(
    call: Call,
    x: Operand,
    axes: list[_Axis],
    mode: str,
    coordinates: Coordinates,
    rounding: str,
) -> Operand:
    call.require(mode in ("nearest", "linear"), f"mode={mode!r} has no counterpart here")
    call.require(min(axis.size for axis in axes) > 0, "nothing is left of an axis")
    if mode == "linear":
        return _linear(call, x, axes, coordinates)
    maps = [
        _nearest(call, size, axis, coordinates, rounding)
        for size, axis in zip(x.shape, axes, strict=True)
    ]
    if _is_upsample(maps, x, axes, coordinates):
        return _add(call, x, axes, "nearest", coordinates)
    for axis, places in enumerate(maps):
        x = look_up(call, x, axis, places)
    return x


def _nearest(
    call: Call, size: int, axis: _Axis, coordinates: Coordinates, rounding: str
) -> np.ndarray:
    """The place of the input that every place of the output takes."""
    call.require(axis.size <= _LONGEST, f"an axis would have {axis.size} places")
    positions = np.arange(axis.size, dtype=np.float64)
    if coordinates == "half_pixel":
        positions = (positions + 0.5) * axis.ratio - 0.5
    else:
        positions = positions * axis.ratio
    return np.clip(_ROUNDINGS[rounding](positions), 0, size - 1).astype(np.int64)


def _is_upsample(
    maps: list[np.ndarray], x: Operand, axes: list[_Axis], coordinates: Coordinates
) -> bool:
    """Whether `upsample` takes the same places: floor(o*ratio), or floor((o+1/2)*ratio)."""
    shift = {"asymmetric": 0.0, "half_pixel": 0.5}.get(coordinates)
    if shift is None or not 3 <= len(axes) <= 5 or not _only_spatial(x, axes):
        return False
    for places, size, axis in zip(maps, x.shape, axes, strict=True):
        ours = np.floor((np.arange(axis.size) + shift) * axis.ratio)
        if not np.array_equal(np.minimum(ours, size - 1), places):
            return False
    return True


def _linear(call: Call, x: Operand, axes: list[_Axis], coordinates: Coordinates) -> Operand:
    call.require(
        3 <= len(axes) <= 5 and _only_spatial(x, axes),
        "linear resampling of batch or channels, or of other than 1 to 3 further axes, has no "
        "counterpart here",
    )
    one_place = coordinates == "align_corners" or (
        call.attribute("coordinate_transformation_mode") == "pytorch_half_pixel"
    )
    for position, axis in enumerate(axes):
        if one_place and axis.size == 1:
            # The position of the only place is 0.
            x = take_range(call, x, position, range(1))
            axes = [*axes[:position], _Axis(1, 1.0), *axes[position + 1 :]]
    return _add(call, x, axes, "linear", coordinates)


def _only_spatial(x: Operand, axes: list[_Axis]) -> bool:
    return all(
        axis == _Axis(size, 1.0) or (axis.size == size and math.isclose(axis.ratio, 1.0))
        for axis, size in zip(axes[:2], x.shape[:2], strict=True)
    )


def _add(call: Call, x: Operand, axes: list[_Axis], mode: str, coordinates: Coordinates) -> Operand:
    output, ratio = (tuple(v) for v in zip(*((a.size, a.ratio) for a in axes[2:]), strict=True))
    return call.add("upsample", x, output=output, ratio=ratio, mode=mode, coordinates=coordinates)
