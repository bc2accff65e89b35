"""The arguments of a rule: bound by name, and held to what the rule says they are.

A rule is a function of a Call and of the operator's arguments, which bear their names and defaults
in aten's schema.  Its annotations are the types that it takes, out of those below; an argument of
any other type is refused before the rule sees it, so files that lie cannot confuse a rule.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from refimpl.importers.call import Call, Value
from refimpl.ops import Shape

Outcome = str | Value | Sequence[str | Value | None]
"""What a rule gives: the value of each result; None for one that has no counterpart."""

Rule = Callable[..., Outcome]

Ints = int | Sequence[int]
"""One int per axis; aten writes equal ones as one int or a list of one."""

# Where a tensor lies and how, which library computes it, what matters to training alone,
# and what the result's shape says already.
_OF_NO_MEANING = {
    "device", "layout", "pin_memory", "memory_format", "non_blocking", "copy", "implicit",
    "cudnn_enable", "cudnn_enabled", "scale_grad_by_freq", "sparse", "half_to_float",
    "generator", "padding_idx", "momentum", "output_size",
}  # fmt: skip


def _is_int(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and (type(value) is not int or _is_int(value))


def _all(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and all(map(test, value))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Value)


_TESTS: dict[str, Callable[[Any], bool]] = {
    "None": lambda value: value is None,
    "Value": _is_tensor,
    "bool": lambda value: type(value) is bool,
    "int": _is_int,
    "float": _is_number,
    "str": lambda value: type(value) is str,
    "Ints": lambda value: _is_int(value) or _all(_is_int)(value),
    "Sequence[int]": _all(_is_int),
    "Sequence[float]": _all(_is_number),
    "Sequence[Value]": _all(_is_tensor),
    "Sequence[Value | None]": _all(lambda value: value is None or _is_tensor(value)),
}


def apply(rule: Rule, call: Call, arguments: Mapping[str, Any]) -> Outcome:
    """What the rule makes of a call with these arguments, tensors as Value.

    Raises:
        CaptureError: an argument is missing, is of another type, or has no word in the Graph.
    """
    takes, takes_more = _parameters(rule)
    ignored = set() if takes_more else _OF_NO_MEANING - takes.keys()
    given = {name: value for name, value in arguments.items() if name not in ignored}
    for name, value in given.items():
        if name not in takes and takes_more:
            continue
        call.require(name in takes, f"its argument {name}={value} has no counterpart here")
        test, wanted = takes[name]
        call.require(test(value), f"its argument {name} is {value!r}, not {wanted}")
    try:
        inspect.signature(rule).bind(call, **given)
    except TypeError as error:
        call.refuse(str(error))
    return rule(call, **given)


@cache
def _parameters(rule: Rule) -> tuple[dict[str, tuple[Callable[[Any], bool], str]], bool]:
    """The test and annotation of each argument, by name; and whether it takes others, unread."""
    _, *parameters = inspect.signature(rule).parameters.values()
    named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    tests = {p.name: (_test(str(p.annotation)), _in_words(str(p.annotation))) for p in named}
    return tests, len(named) < len(parameters)


def _in_words(annotation: str) -> str:
    return annotation.replace("Ints", "ints").replace("Value", "tensor").replace(" | ", " or ")


def _test(annotation: str) -> Callable[[Any], bool]:
    if annotation in _TESTS:
        return _TESTS[annotation]
    tests = [_TESTS[part] for part in annotation.split(" | ")]
    return lambda value: any(test(value) for test in tests)


def per_axis(call: Call, value: Ints, rank: int) -> Shape:
    """One int per spatial axis."""
    sizes = (value,) if isinstance(value, int) else tuple(value)
    sizes = sizes * rank if len(sizes) == 1 else sizes
    call.require(len(sizes) == rank, f"{sizes} is not one int for each of {rank} axes")
    return sizes


def axis(call: Call, x: Value | Shape, dim: int) -> int:
    """The axis that aten may count from the end, counted from the start."""
    rank = len(x.shape if isinstance(x, Value) else x)
    call.require(-rank <= dim < rank, f"axis {dim} is not one of {rank}")
    return dim % rank


def axes(call: Call, x: Value, dims: Ints | None) -> Shape:
    """The axes in increasing order; none given means all, as aten has it."""
    dims = [dims] if isinstance(dims, int) else dims
    return tuple(sorted({axis(call, x, dim) for dim in dims or range(len(x.shape))}))
