"""The one error of this package."""

from __future__ import annotations


class BenchError(ValueError):
    """A request that cannot be met; the message names the layer, peer or device and the way out."""
