"""Sparse schemes: which weights of a layer may be removed together, one scheme per file."""

from refimpl.schemes.scheme import Scheme

__all__ = ["Scheme"]
