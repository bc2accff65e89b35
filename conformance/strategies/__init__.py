"""Hypothesis strategies for layers, nets and whole cases.

They draw structure and a seed; numbers come from NumPy (see `conformance.values`).  Every layer
is valid by construction and costs at most about `parts.MACS` multiply-adds; sizes are awkward on
purpose: 1, primes, and one less or more than a vector.  Simple choices come first, so what fails
shrinks to something a person can read.
"""

from conformance.strategies.cases import Case, cases, compared_cases, tiled_cases
from conformance.strategies.contractions import (
    conv_layers,
    embeddings,
    linear_layers,
    patterned_layers,
    point_layers,
    products,
    tiled_layers,
    transposed_layers,
)
from conformance.strategies.nets import branched, nets, transformers
from conformance.strategies.plain import (
    elements,
    movements,
    norms,
    pairs,
    pools,
    reductions,
    resamplings,
)
from conformance.strategies.recurrent import recurrences, texts

__all__ = [
    "Case",
    "branched",
    "cases",
    "compared_cases",
    "conv_layers",
    "elements",
    "embeddings",
    "linear_layers",
    "movements",
    "nets",
    "norms",
    "pairs",
    "patterned_layers",
    "point_layers",
    "pools",
    "products",
    "recurrences",
    "reductions",
    "resamplings",
    "texts",
    "tiled_cases",
    "tiled_layers",
    "transformers",
    "transposed_layers",
]
