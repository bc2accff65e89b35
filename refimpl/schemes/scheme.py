"""The one description all schemes share: groups of units, and what may stay in each group."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scheme:
    """Base of the schemes; each subclass is a frozen dataclass of its block sizes."""
