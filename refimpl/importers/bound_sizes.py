"""The sizes of a saved program's tensors, and how a user binds those that it leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refimpl.importers import CaptureError
from refimpl.importers.fields import expect, get, only
from refimpl.importers.sizes import open_input
from refimpl.importers.symbols import OpenSizeError, bind, open_name, size_of
from refimpl.ops import Shape

_LARGEST_SIZE = 2**31 - 1
_MOST_AXES = 32


class BoundSizes:
    """The sizes of all tensors, by name, with the symbols that are bound so far."""

    def __init__(self, metas: Mapping[str, Any], what: str) -> None:
        """Args: what the file says of each tensor, and how messages call the file."""
        self.metas = metas
        self.what = what
        self.bound: dict[str, int] = {}

    def bind(self, inputs: list[str], shapes: Mapping[str, Shape]) -> None:
        """Bind the open sizes of the inputs to those of the shapes that the user gives."""
        pending = []
        for name, shape in shapes.items():
            sizes = self.expressions(name)
            if len(shape) != len(sizes):
                raise CaptureError(f"input {name!r} has {len(sizes)} axes, not {len(shape)}")
            pending += [
                (name, axis, *pair) for axis, pair in enumerate(zip(sizes, shape, strict=True))
            ]
        # The second time, sizes that are made of several symbols are known, too.
        for again in (False, True):
            for name, axis, size, wanted in pending:
                if not bind(size, wanted, self.bound) and again:
                    self.refuse_size(name, axis, wanted, size)
        for name in inputs:
            self.require_bound(name)

    def refuse_size(self, name: str, axis: int, wanted: int, size: str) -> None:
        """Say why an input cannot have the size."""
        try:
            fixed = size_of(size, self.bound)
        except OpenSizeError:
            fixed = None
        reason = f"is {fixed} there" if fixed is not None else "was exported for others"
        raise CaptureError(f"input {name!r} cannot have size {wanted} at axis {axis}: it {reason}")

    def require_bound(self, name: str) -> None:
        """Refuse an input of open size, by name."""
        try:
            self.shape(name)
        except OpenSizeError:
            sizes = [open_name(size) for size in self.expressions(name)]
            raise open_input(name, sizes, list(self.hints(name))) from None

    def require_ranges(self, ranges: dict[str, Any]) -> None:
        """Hold the bound sizes to what the model was exported for."""
        for symbol, limits in ranges.items():
            low, high = (expect(limits, dict, symbol).get(key) for key in ("min_val", "max_val"))
            size = self.bound.get(symbol)
            if size is None:
                continue
            if (type(low) is int and size < low) or (type(high) is int and size > high):
                raise CaptureError(
                    f"{self.what} was exported for sizes {low} to {high}, not {size}"
                )

    def expressions(self, name: str) -> list[str]:
        """The sizes of a tensor as expressions."""
        meta = get(self.metas, name, dict, f"{self.what}: its tensors")
        return [_expression(size, name) for size in get(meta, "sizes", list, name)]

    def hints(self, name: str) -> Iterator[int]:
        """The sizes that a tensor had at the export, 1 where unknown."""
        for size in get(get(self.metas, name, dict, name), "sizes", list, name):
            kind, value = only(size, name)
            hint = value.get("hint") if kind == "as_expr" else {"as_int": value}
            found = hint.get("as_int") if isinstance(hint, dict) else None
            yield found if type(found) is int and found > 0 else 1

    def shape(self, name: str) -> Shape:
        """The shape of a tensor.

        Raises:
            OpenSizeError: a size depends on a symbol that is not bound.
            CaptureError: it has none that a Graph could have.
        """
        shape = tuple(size_of(size, self.bound) for size in self.expressions(name))
        if not all(0 <= size <= _LARGEST_SIZE for size in shape) or len(shape) > _MOST_AXES:
            raise CaptureError(f"{self.what}: {name!r} is of shape {shape}")
        return shape

    def size(self, union: Any, what: str) -> int:
        """A size that the program computes from others.

        Raises:
            OpenSizeError: it depends on a symbol that is not bound.
        """
        return size_of(_expression(union, what), self.bound)


def _expression(union: Any, what: str) -> str:
    """A size as an expression of symbols."""
    kind, value = only(union, what)
    if kind == "as_int":
        return str(expect(value, int, what))
    return get(value, "expr_str", str, what)
