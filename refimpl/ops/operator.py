"""What an operator is: its name, its attributes, its shape rule and its meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Shape = tuple[int, ...]

# Sizes past this are refused, so that no product of a few attributes can overflow anything.
LARGEST_INT = 2**31 - 1
MOST_AXES = 8


class ShapeError(ValueError):
    """Inputs or attributes that an operator's shape rule refuses; the message says which rule."""


@dataclass(frozen=True)
class Kind:
    """What values an attribute may have: in words, and as a test."""

    text: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True)
class Operator:
    """One row of the table of operators.

    Attributes:
        name: as written in a Graph.
        arity: fewest and most inputs; None when there is no most.
        attributes: the kind of each attribute; all are required and no other is allowed.
        shape: (input shapes, attributes) to the shape of the result, or with several results to
            the tuple of their shapes; raises ShapeError.
        evaluate: (float64 inputs, attributes as keywords) to the float64 result, or with several
            results to the tuple of them: the meaning.
        fast: a vectorised twin of `evaluate`, where the meaning is too slow for real layers.
        results: how many values a node of the operator defines.
        weights: the positions of the inputs that are weights which can be pruned, and the keyword
            by which `evaluate` takes the mask of each (bool, of the weight's shape, or None).
        parts: (attributes) to the equal runs of outputs (groups of a convolution, gates) that a
            pruned weight falls into; no block of a mask straddles two.
        uses: (input shapes, shapes of the results, attributes) to how many times each element of
            an input is multiplied, by the input's position; empty where no multiply-accumulates
            are counted.
        direct: (input shapes, shapes of the results, attributes) to the multiply-accumulates that
            the unpruned operator stands for, where it multiplies fewer; None where it does not.
    """

    name: str
    arity: tuple[int, int | None]
    shape: Callable[[Sequence[Shape], Mapping[str, Any]], Any]
    evaluate: Callable[..., Any]
    attributes: Mapping[str, Kind] = field(default_factory=dict)
    fast: Callable[..., Any] | None = None
    results: int = 1
    weights: Mapping[int, str] = field(default_factory=dict)
    parts: Callable[[Mapping[str, Any]], int] = lambda _: 1
    uses: Callable[[Sequence[Shape], Sequence[Shape], Mapping[str, Any]], Mapping[int, int]] = (
        lambda *_: {}
    )
    direct: Callable[[Sequence[Shape], Sequence[Shape], Mapping[str, Any]], int] | None = None

    def each(self, found: Any) -> tuple[Any, ...]:
        """What `shape`, `evaluate` or `fast` returned, as a tuple with one entry per result."""
        return found if self.results > 1 else (found,)


def require(condition: bool, rule: str) -> None:
    """Raise ShapeError with the rule unless the condition holds."""
    if not condition:
        raise ShapeError(rule)


def same_shape(shapes: Sequence[Shape], _: Mapping[str, Any]) -> Shape:
    """The shape rule of elementwise operators of one input."""
    return shapes[0]


def broadcast_shape(shapes: Sequence[Shape], _: Mapping[str, Any]) -> Shape:
    """The shape rule of elementwise operators of two inputs: NumPy's broadcasting."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(f"{shapes[0]} and {shapes[1]} do not broadcast") from None


def per_channel(values: np.ndarray, rank: int) -> np.ndarray:
    """[C] as [1, C, 1, ...], which broadcasts against a value [N, C, *S] of that rank."""
    return values.reshape(1, -1, *[1] * (rank - 2))


def require_bias(shapes: Sequence[Shape], filters: int) -> None:
    """Require that what comes after input and weight, if anything, is one value per filter."""
    for bias in shapes[2:]:
        require(bias == (filters,), f"bias {bias} is not one value for each of {filters} filters")


def _is_int(value: Any, least: int) -> bool:
    # `type` and not `isinstance`: True is an int, and numpy's ints print differently.
    return type(value) is int and least <= value <= LARGEST_INT


def _is_ints(value: Any, least: int) -> bool:
    return type(value) is tuple and all(_is_int(v, least) for v in value)


def _is_spatial(value: Any, least: int) -> bool:
    return _is_ints(value, least) and 1 <= len(value) <= 3


def _is_pairs(value: Any, most: int) -> bool:
    if type(value) is not tuple or len(value) > most:
        return False
    return all(_is_ints(pair, 0) and len(pair) == 2 for pair in value)


def _is_axes(value: Any) -> bool:
    return _is_ints(value, 0) and value != () and list(value) == sorted(set(value))


def _is_order(value: Any) -> bool:
    return _is_ints(value, 0) and sorted(value) == list(range(len(value)))


def _is_ratios(value: Any) -> bool:
    floats = type(value) is tuple and all(_is_float(v) and v >= 0 for v in value)
    return floats and 1 <= len(value) <= 3


def _is_float(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)


def _one_of(*values: str) -> Kind:
    text = " or ".join(f'"{value}"' for value in values)
    return Kind(text, lambda v: type(v) is str and v in values)


AXIS = Kind("an int of 0 or more", lambda v: _is_int(v, 0))
COUNT = Kind("an int of 1 or more", lambda v: _is_int(v, 1))
FLAG = Kind("True or False", lambda v: type(v) is bool)
FLOAT = Kind("a finite float", _is_float)
FACTOR = Kind("a finite float other than 0", lambda v: _is_float(v) and v != 0)
BOUND = Kind("a float that is not NaN", lambda v: type(v) is float and not math.isnan(v))
SHAPE = Kind("a tuple of ints of 1 or more", lambda v: _is_ints(v, 1))
SPATIAL = Kind("a tuple of one to three ints of 1 or more", lambda v: _is_spatial(v, 1))
MARGIN = Kind("a tuple of one to three ints of 0 or more", lambda v: _is_spatial(v, 0))
PADDING = Kind(
    "a tuple of one to three (lo, hi) pairs of ints of 0 or more",
    lambda v: v != () and _is_pairs(v, 3),
)
PAIRS = Kind("a tuple of (lo, hi) pairs of ints of 0 or more", lambda v: _is_pairs(v, MOST_AXES))
AXES = Kind("a tuple of increasing ints of 0 or more", _is_axes)
ORDER = Kind("the axes 0, 1, ... in some order", _is_order)
INDICES = Kind("a tuple of one or more ints of 0 or more", lambda v: v != () and _is_ints(v, 0))
STEP = Kind("an int other than 0", lambda v: _is_int(v, -LARGEST_INT) and v != 0)
RATIOS = Kind("a tuple of one to three finite floats of 0 or more", _is_ratios)
GELU_FORM = _one_of("none", "tanh")
RNN_ACTIVATION = _one_of("tanh", "relu")
PAD_MODE = _one_of("constant", "reflect", "edge", "wrap")
SAMPLING = _one_of("nearest", "linear")
COORDINATES = _one_of("half_pixel", "align_corners", "asymmetric")
