"""Winograd convolution: transforms derived exactly, the algorithm, and the error it may make."""

from refimpl.winograd.bound import amplification, error_bound, magnitude, roundings
from refimpl.winograd.convolution import convolve, saving
from refimpl.winograd.transforms import POINTS, Transform, WinogradError, cook_toom
from refimpl.winograd.weight import denominator, transform_weight

__all__ = [
    "POINTS",
    "Transform",
    "WinogradError",
    "amplification",
    "convolve",
    "cook_toom",
    "denominator",
    "error_bound",
    "magnitude",
    "roundings",
    "saving",
    "transform_weight",
]
