"""Sparse schemes: which weights of a layer may be removed together, one scheme per file."""

from refimpl.schemes.across import Layer, project_across
from refimpl.schemes.bcr import BCR
from refimpl.schemes.channel import Channel
from refimpl.schemes.dense import Dense
from refimpl.schemes.filter import Filter
from refimpl.schemes.kgs import KGS
from refimpl.schemes.nm import NM
from refimpl.schemes.pattern import Pattern, mine_patterns
from refimpl.schemes.rules import AnySubset, Exactly, OneOfLibrary
from refimpl.schemes.scheme import Scheme, SchemeError, Scope, kept_macs
from refimpl.schemes.text import SCHEMES, scheme_from_text
from refimpl.schemes.units import Units
from refimpl.schemes.unstructured import Unstructured
from refimpl.schemes.vanilla import Vanilla

__all__ = [
    "BCR",
    "KGS",
    "NM",
    "SCHEMES",
    "AnySubset",
    "Channel",
    "Dense",
    "Exactly",
    "Filter",
    "Layer",
    "OneOfLibrary",
    "Pattern",
    "Scheme",
    "SchemeError",
    "Scope",
    "Units",
    "Unstructured",
    "Vanilla",
    "kept_macs",
    "mine_patterns",
    "project_across",
    "scheme_from_text",
]
