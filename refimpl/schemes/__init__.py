"""Sparse schemes: which weights of a layer may be removed together, one scheme per file."""

from refimpl.schemes.dense import Dense
from refimpl.schemes.filter import Filter
from refimpl.schemes.kgs import KGS
from refimpl.schemes.scheme import Scheme, SchemeError, Scope, kept_macs
from refimpl.schemes.text import SCHEMES, scheme_from_text
from refimpl.schemes.units import AnySubset, Exactly, Units
from refimpl.schemes.unstructured import Unstructured
from refimpl.schemes.vanilla import Vanilla

__all__ = [
    "KGS",
    "SCHEMES",
    "AnySubset",
    "Dense",
    "Exactly",
    "Filter",
    "Scheme",
    "SchemeError",
    "Scope",
    "Units",
    "Unstructured",
    "Vanilla",
    "kept_macs",
    "scheme_from_text",
]
