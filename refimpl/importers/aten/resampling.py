"""Upsampling: nearest, nearest-exact and linear, by a size or by a factor."""

from __future__ import annotations

from collections.abc import Sequence

from refimpl.importers.aten.arguments import Rule
from refimpl.importers.call import Call, Value


def _by_sizes_or_factors(mode: str, coordinates: str) -> Rule:
    """The rule of the "vec" form: either sizes or factors are given."""

    def rule(
        call: Call,
        input: Value,
        align_corners: bool = False,
        scale_factors: Sequence[float] | None = None,
    ) -> str:
        factors = scale_factors or [None] * (len(input.shape) - 2)
        return _upsample(call, input, mode, coordinates, align_corners, factors)

    return rule


def _by_factor_per_axis(mode: str, coordinates: str) -> Rule:
    """The rule of the form with a size, and perhaps a factor for each axis."""

    def rule(
        call: Call,
        self: Value,
        output_size: Sequence[int],
        align_corners: bool = False,
        scales: float | None = None,
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> str:
        given = {1: [scales], 2: [scales_h, scales_w], 3: [scales_d, scales_h, scales_w]}
        factors = given.get(len(output_size), [])
        return _upsample(call, self, mode, coordinates, align_corners, factors)

    return rule


def _upsample(
    call: Call,
    x: Value,
    mode: str,
    coordinates: str,
    align_corners: bool,
    factors: Sequence[float | None],
) -> str:
    sizes = x.shape[2:], call.result[2:]
    call.require(len(factors) == len(sizes[0]), f"{factors} is not a factor for each axis")
    call.require(0 not in call.result, "nothing is left of it")
    axes = zip(*sizes, factors, strict=True)
    if align_corners:
        # The first and last positions fall on one another.
        ratio = tuple((a - 1) / (b - 1) if b > 1 else 0.0 for a, b, _ in axes)
        coordinates = "align_corners"
    else:
        # A factor that is given counts, even where rounding made the size another.
        ratio = tuple(1 / factor if factor else a / b for a, b, factor in axes)
    return call.add(
        "upsample",
        x,
        output=call.result[2:],
        ratio=tuple(map(float, ratio)),
        mode=mode,
        coordinates=coordinates,
    )


_FAMILIES = {
    "upsample_nearest": ("nearest", "asymmetric", ("1d", "2d", "3d")),
    "_upsample_nearest_exact": ("nearest", "half_pixel", ("1d", "2d", "3d")),
    "upsample_": ("linear", "half_pixel", ("linear1d", "bilinear2d", "trilinear3d")),
}

RESAMPLING: dict[str, Rule] = {
    f"aten.{family}{kind}.{form}": make(mode, coordinates)
    for family, (mode, coordinates, kinds) in _FAMILIES.items()
    for kind in kinds
    for form, make in (("vec", _by_sizes_or_factors), ("default", _by_factor_per_axis))
}
