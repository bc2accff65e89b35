"""Sizes that an export left open: expressions of symbols, and the symbols that a user binds.

torch writes them as SymPy's constructors: Mul(Integer(8), Symbol('s53', positive=True)).  They are
read as text, bounded in length, and only the functions below are ever called.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping

from refimpl.importers import CaptureError

_LONGEST = 2000
_LARGEST = 2**63


def _product(*factors: int) -> int:
    return math.prod(factors)


def _power(base: int, exponent: int) -> int:
    if not 0 <= exponent <= 8:
        raise ValueError(f"the power {exponent} of a size")
    return base**exponent


_FUNCTIONS: dict[str, Callable[..., int]] = {
    "Integer": int,
    "Add": lambda *terms: sum(terms),
    "Mul": _product,
    "Pow": _power,
    "FloorDiv": lambda a, b: a // b,
    "CleanDiv": lambda a, b: a // b,
    "CeilDiv": lambda a, b: -(-a // b),
    "Mod": lambda a, b: a % b,
    "PythonMod": lambda a, b: a % b,
    "Max": max,
    "Min": min,
}


class OpenSizeError(ValueError):
    """A size depends on a symbol that is not bound; `symbol` names it."""

    def __init__(self, symbol: str) -> None:
        super().__init__(symbol)
        self.symbol = symbol


def size_of(expression: str, bound: Mapping[str, int]) -> int:
    """What a size is, with these symbols bound.

    Raises:
        OpenSizeError: a symbol is not.
        CaptureError: the expression is too long, or holds what is not known here.
    """
    try:
        found = _evaluate(_parsed(expression), bound)
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        if isinstance(error, OpenSizeError):
            raise
        raise CaptureError(f"the size {expression[:80]!r} cannot be read: {error}") from error
    if not -_LARGEST < found < _LARGEST:
        raise CaptureError(f"the size {expression[:80]!r} is {found}")
    return found


def bind(expression: str, size: int, bound: dict[str, int]) -> bool:
    """Bind the one symbol of the expression that is not bound so that the expression is the size.

    Returns:
        Whether the expression has this size now; False also where no value of the symbol, or more
        than one symbol, would be needed for it.
    """
    try:
        return size_of(expression, bound) == size
    except OpenSizeError as error:
        symbol = error.symbol
    try:
        least, next_one = (size_of(expression, {**bound, symbol: n}) for n in (0, 1))
        step = next_one - least
        found = (size - least) // step if step else 0
        if size_of(expression, {**bound, symbol: found}) != size:
            return False
    except OpenSizeError:
        return False
    bound[symbol] = found
    return True


def open_name(expression: str) -> int | str:
    """The size where it is fixed, else the name of the symbol that it is, or "" if it is more."""
    tree = _parsed(expression)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "Symbol":
        return _symbol(tree)
    try:
        return size_of(expression, {})
    except OpenSizeError:
        return ""


def _parsed(expression: str) -> ast.expr:
    if len(expression) > _LONGEST:
        raise CaptureError(f"a size is an expression of {len(expression)} letters")
    try:
        return ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CaptureError(f"the size {expression[:80]!r} cannot be read") from error


def _evaluate(tree: ast.expr, bound: Mapping[str, int]) -> int:
    if isinstance(tree, ast.Constant) and type(tree.value) is int:
        return tree.value
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        return -_evaluate(tree.operand, bound)
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise ValueError("it is no call of a function")
    if tree.func.id == "Symbol":
        name = _symbol(tree)
        if name not in bound:
            raise OpenSizeError(name)
        return bound[name]
    if tree.func.id not in _FUNCTIONS:
        raise ValueError(f"{tree.func.id} is not known")
    found = _FUNCTIONS[tree.func.id](*(_evaluate(argument, bound) for argument in tree.args))
    if not -_LARGEST < found < _LARGEST:
        raise ValueError("a size past 2^63")
    return found


def _symbol(tree: ast.Call) -> str:
    name = tree.args[0] if tree.args else None
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        raise CaptureError("a symbol without a name")
    return name.value
