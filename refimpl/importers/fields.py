"""Reading parsed JSON that may be anything: every access says what it expects, or refuses."""

from __future__ import annotations

from typing import Any, TypeVar

from refimpl.importers import CaptureError

T = TypeVar("T")


def expect(value: Any, kind: type[T], what: str) -> T:
    """The value, if it is of exactly this type.

    Raises:
        CaptureError: it is not.
    """
    if type(value) is not kind:
        raise CaptureError(f"{what} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def get(record: Any, key: str, kind: type[T], what: str) -> T:
    """An entry of a record.

    Raises:
        CaptureError: there is no record, no such entry, or it is of another type.
    """
    if key not in expect(record, dict, what):
        raise CaptureError(f"{what} has no {key!r}")
    return expect(record[key], kind, f"{key!r} of {what}")


def only(union: Any, what: str) -> tuple[str, Any]:
    """The one entry of a record that holds one out of several: which, and its value.

    Raises:
        CaptureError: it holds none or several.
    """
    if len(expect(union, dict, what)) != 1:
        raise CaptureError(f"{what} holds {len(union)} values, not one")
    return next(iter(union.items()))
