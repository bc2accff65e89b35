"""Winograd convolution: transforms derived exactly, the algorithm, and the error it may make."""

from refimpl.winograd.bound import amplification, error_bound, roundings
from refimpl.winograd.convolution import convolve, saving
from refimpl.winograd.transforms import POINTS, Transform, WinogradError, cook_toom

__all__ = [
    "POINTS",
    "Transform",
    "WinogradError",
    "amplification",
    "convolve",
    "cook_toom",
    "error_bound",
    "roundings",
    "saving",
]
