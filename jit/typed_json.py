"""Frozen dataclasses as JSON and back, by their annotations; nothing else is ever constructed.

Tuples and mappings become arrays and objects; a float that JSON lacks becomes `{"float": "inf"}`.
Reading is strict: a key too many or too few, a value of another type, a number past 64 bits or a
text that could disturb a terminal is a `FormError` that names the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from math import isfinite
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

LONGEST_TEXT = 4096
"""Characters of a name or a sentence."""


class FormError(ValueError):
    """JSON that is not of the form its reader wants; the message names the place."""


def encode(value: Any) -> Any:
    """What `json.dumps` takes, of dataclasses, tuples, mappings, texts, numbers and None."""
    if is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {name: encode(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return {"float": str(value)}
    return value


def decode(kind: Any, value: Any, where: str) -> Any:
    """The value of the annotated type `kind`; `where` is its place, for messages.

    Raises:
        FormError: the JSON does not have that form.
    """
    origin, args = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin is tuple:
        return _tuple(args, value, where)
    if origin in (Union, UnionType):
        wanted = next(arg for arg in args if arg is not type(None))
        return None if value is None else decode(wanted, value, where)
    if origin is not None and issubclass(origin, Mapping):
        _require(isinstance(value, dict), where, "an object")
        return {text(n, where): decode(args[1], v, f"{where}.{n}") for n, v in value.items()}
    return _free(value, where) if kind is Any else _scalar(kind, value, where)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    hints = _hints(kind)
    _require(isinstance(value, dict), where, "an object")
    _require(value.keys() == hints.keys(), where, f"an object of {', '.join(hints)}")
    try:
        return kind(**{n: decode(hint, value[n], f"{where}.{n}") for n, hint in hints.items()})
    except FormError:
        raise
    except ValueError as error:  # what the dataclass itself refuses
        raise FormError(f"{where}: {error}") from error


def _tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    _require(isinstance(value, list), where, "an array")
    if args[-1] is Ellipsis:
        kinds = args[:1] * len(value)
    else:
        kinds = args
        _require(len(value) == len(kinds), where, f"an array of {len(kinds)}")
    return tuple(
        decode(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))
    )


def _free(value: Any, where: str) -> Any:
    """An attribute's value: a number, a flag, a text, or a tuple of such."""
    if isinstance(value, list):
        return tuple(_free(item, where) for item in value)
    for kind in (bool, int, float, str):
        if type(value) is kind or (kind is float and isinstance(value, dict)):
            return _scalar(kind, value, where)
    raise FormError(f"{where} is {_shown(value)}, not a value of an attribute")


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is str:
        return text(value, where)
    if kind is float and isinstance(value, dict):
        special = str(value.get("float"))
        _require(value.keys() == {"float"} and special in ("inf", "-inf", "nan"), where, "a float")
        return float(special)
    # A whole number is a float too, but True is no number.
    fits = type(value) is kind or (kind is float and type(value) is int)
    _require(fits and abs(value) < 2**63, where, f"a {kind.__name__} of 64 bits")
    return value


def text(value: Any, where: str) -> str:
    """The value, if it is a text fit to be printed. Raises FormError."""
    fits = isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()
    _require(fits, where, f"a printable text of at most {LONGEST_TEXT} characters")
    return value


def _require(condition: bool, where: str, wanted: str) -> None:
    if not condition:
        raise FormError(f"{where} is not {wanted}")


def _shown(value: Any) -> str:
    return repr(value)[:40]
