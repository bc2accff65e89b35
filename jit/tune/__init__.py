"""Choosing by measurement: candidates timed on the device, and the table that keeps the times."""

from jit.tune.table import LatencyTable, TableError
from jit.tune.tuner import tune

__all__ = ["LatencyTable", "TableError", "tune"]
