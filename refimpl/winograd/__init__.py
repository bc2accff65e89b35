"""Winograd convolution: transforms derived exactly, the algorithm, and the error it may make."""

from refimpl.winograd.bound import amplification, error_bound, magnitude, roundings
from refimpl.winograd.convolution import convolve, saving
from refimpl.winograd.pruning import error_form, point_gains, refit
from refimpl.winograd.tiling import (
    LONGEST,
    points,
    taps,
    tile_counts,
    tile_starts,
    transforms,
)
from refimpl.winograd.transforms import POINTS, Transform, WinogradError, cook_toom
from refimpl.winograd.weight import denominator, transform_weight

__all__ = [
    "LONGEST",
    "POINTS",
    "Transform",
    "WinogradError",
    "amplification",
    "convolve",
    "cook_toom",
    "denominator",
    "error_bound",
    "error_form",
    "magnitude",
    "point_gains",
    "points",
    "refit",
    "roundings",
    "saving",
    "taps",
    "tile_counts",
    "tile_starts",
    "transform_weight",
    "transforms",
]
