"""The shapes that a user gives for the inputs of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refimpl.importers import CaptureError
from refimpl.ops import Shape

GivenShapes = Mapping[str, Sequence[int]] | Sequence[int]
"""Shapes by the name of an input, or the shape of the only one."""

_LARGEST = 2**31 - 1


def by_name(given: GivenShapes | None, inputs: Sequence[str], what: str) -> dict[str, Shape]:
    """The shapes by the name of the input.

    Args:
        given: as the user says; None is none.
        inputs: names of all inputs of the model.
        what: how messages call the model.

    Raises:
        CaptureError: a name is no input's, a lone shape is given where there are several inputs,
            or a size is no int of 1 or more.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if len(inputs) != 1:
            raise CaptureError(
                f"{what} has {len(inputs)} inputs, {', '.join(inputs)}: say whose shape "
                f"{_text(given)} is, such as {inputs[0] if inputs else 'NAME'}={_text(given)}"
            )
        given = {inputs[0]: given}
    for name, sizes in given.items():
        if name not in inputs:
            known = ", ".join(repr(name) for name in inputs)
            raise CaptureError(f"a shape is given for {name!r}; {what}'s inputs are {known}")
        if not all(type(size) is int and 1 <= size <= _LARGEST for size in sizes):
            raise CaptureError(
                f"the shape {tuple(sizes)} given for input {name!r} has a size that is not an int "
                "of 1 or more"
            )
    return {name: tuple(sizes) for name, sizes in given.items()}


def open_input(name: str, sizes: Sequence[int | str], examples: Sequence[int]) -> CaptureError:
    """What to raise where an input's sizes are open.

    Args:
        name: of the input.
        sizes: those that the file fixes, and of the open ones the names, "" without one.
        examples: sizes that it could have.
    """
    shown = ", ".join(str(size) or "?" for size in sizes)
    text = _text(examples)
    return CaptureError(
        f"input {name!r} leaves sizes open, ({shown}): give them all, such as --shape "
        f"{name}={text}, or shapes={{{name!r}: {tuple(examples)}}}"
    )


def _text(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
