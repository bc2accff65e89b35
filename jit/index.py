"""Integer expressions of a Program: loop bounds and the subscripts of buffers.

An `Index` is a polynomial over atoms with integer coefficients, kept in one canonical form, so
equal expressions are equal values and substitution needs no simplifier:

    index := coefficient * atom * ... + ... + constant
    atom  := NAME | index // index | index % index | min(index, index) | max(index, index)
           | TABLE[index]                    (an element of an int32 table, as group lengths are)

Division is floor division; divisors are positive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache


@dataclass(frozen=True)
class Var:
    """A loop variable or an integer parameter."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Binary:
    """`left OP right` for the operators that a polynomial has no term for."""

    op: str  # "//", "%", "min" or "max"
    left: Index
    right: Index

    def __str__(self) -> str:
        if self.op in ("min", "max"):
            return f"{self.op}({self.left}, {self.right})"
        return f"{_operand(self.left)} {self.op} {_operand(self.right)}"


@dataclass(frozen=True)
class At:
    """An element of an int32 table."""

    table: str
    index: Index

    def __str__(self) -> str:
        return f"{self.table}[{self.index}]"


Atom = Var | Binary | At
Monomial = tuple[Atom, ...]


@lru_cache(maxsize=4096)
def _order(atom: Atom) -> tuple[int, str]:
    return (0 if isinstance(atom, Var) else 1, str(atom))


@dataclass(frozen=True)
class Index:
    """A polynomial: sorted (monomial, coefficient) pairs; the constant has the empty monomial."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: IndexLike) -> Index:
        total = dict(self.terms)
        for monomial, coefficient in index(other).terms:
            total[monomial] = total.get(monomial, 0) + coefficient
        return _canonical(total)

    def __mul__(self, other: IndexLike) -> Index:
        total: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in index(other).terms:
                product = tuple(sorted(left + right, key=_order))
                total[product] = total.get(product, 0) + a * b
        return _canonical(total)

    def __sub__(self, other: IndexLike) -> Index:
        return self + index(other) * -1

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, divisor: IndexLike) -> Index:
        return divide(self, index(divisor), "//")

    def __mod__(self, divisor: IndexLike) -> Index:
        return divide(self, index(divisor), "%")

    @property
    def constant(self) -> int | None:
        """The value if no atom occurs, else None."""
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None

    @cached_property
    def names(self) -> frozenset[str]:
        """Every variable that occurs, also inside divisions and table subscripts."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                match atom:
                    case Var(name):
                        found.add(name)
                    case Binary(_, left, right):
                        found |= left.names | right.names
                    case At(_, inner):
                        found |= inner.names
        return frozenset(found)

    @cached_property
    def tables(self) -> frozenset[str]:
        """Every table that is read."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                match atom:
                    case Binary(_, left, right):
                        found |= left.tables | right.tables
                    case At(table, inner):
                        found |= {table} | inner.tables
        return frozenset(found)

    def coefficient(self, name: str) -> int | None:
        """c if the index is c*name + (terms without name), else None."""
        found = 0
        for monomial, coefficient in self.terms:
            if monomial == (Var(name),):
                found = coefficient
            elif name in Index(((monomial, 1),)).names:
                return None
        return found

    def split(self, names: frozenset[str]) -> tuple[Index, Index]:
        """(terms in which any of `names` occurs, the other terms)."""
        inside, outside = [], []
        for term in self.terms:
            (inside if Index((term,)).names & names else outside).append(term)
        return Index(tuple(inside)), Index(tuple(outside))

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        parts = []
        for monomial, coefficient in self.terms:
            factors = [_factor(atom) for atom in monomial]
            if coefficient != 1 or not factors:
                scale = [str(abs(coefficient))] if abs(coefficient) != 1 or not factors else []
                factors = scale + factors
            sign = "-" if coefficient < 0 else "+"
            sign = f" {sign} " if parts else sign.replace("+", "")
            parts.append(sign + "*".join(factors))
        return "".join(parts)


IndexLike = Index | int | str


def _operand(value: Index) -> str:
    """The text of an operand of // or %: in parentheses unless it is one name or number."""
    text = str(value)
    return text if text.replace("_", "a").isalnum() else f"({text})"


def _factor(atom: Atom) -> str:
    text = str(atom)
    return f"({text})" if isinstance(atom, Binary) and atom.op in ("//", "%") else text


def _canonical(terms: Mapping[Monomial, int]) -> Index:
    kept = [(monomial, c) for monomial, c in terms.items() if c != 0]
    # Variables first, the constant last: the order in which people write an address.
    kept.sort(key=lambda term: (len(term[0]) == 0, [_order(atom) for atom in term[0]]))
    return Index(tuple(kept))


def index(value: IndexLike) -> Index:
    """An Index from an integer, a variable's name, or itself."""
    if isinstance(value, Index):
        return value
    if isinstance(value, str):
        return Index((((Var(value),), 1),))
    return Index((((), int(value)),)) if value else Index(())


def at(table: str, subscript: IndexLike) -> Index:
    """`table[subscript]` as an Index."""
    return Index((((At(table, index(subscript)),), 1),))


def minimum(left: IndexLike, right: IndexLike) -> Index:
    """min(left, right)."""
    return _extreme("min", index(left), index(right))


def maximum(left: IndexLike, right: IndexLike) -> Index:
    """max(left, right)."""
    return _extreme("max", index(left), index(right))


def _extreme(op: str, left: Index, right: Index) -> Index:
    difference = (left - right).constant
    if difference is not None:
        return left if (difference <= 0) == (op == "min") else right
    return Index((((Binary(op, left, right),), 1),))


def divide(value: Index, divisor: Index, op: str) -> Index:
    """value // divisor or value % divisor, with whatever the divisor divides taken out."""
    d = divisor.constant
    if d is None:
        return Index((((Binary(op, value, divisor),), 1),))
    if d <= 0:
        raise ValueError(f"divisor {d} of {value} is not positive")
    # (d*a + b) // d = a + b // d and (d*a + b) % d = b % d hold for floor division.
    whole = Index(tuple((m, c // d) for m, c in value.terms if c % d == 0))
    rest = Index(tuple((m, c) for m, c in value.terms if c % d != 0))
    constant = rest.constant
    if constant is not None:
        return whole + constant // d if op == "//" else index(constant % d)
    if d == 1:
        return value if op == "//" else index(0)
    inner = Index((((Binary(op, rest, divisor),), 1),))
    return whole + inner if op == "//" else inner


def substitute(value: Index, bindings: Mapping[str, Index]) -> Index:
    """The Index with every variable in `bindings` replaced."""
    if not value.names & bindings.keys():
        return value
    total = index(0)
    for monomial, coefficient in value.terms:
        product = index(coefficient)
        for atom in monomial:
            product = product * _substitute_atom(atom, bindings)
        total = total + product
    return total


def specialise(value: Index, constants: Mapping[str, int]) -> Index:
    """`substitute` by integers, which needs no products of expressions: unrolling does it often."""
    if not value.names & constants.keys():
        return value
    total: dict[Monomial, int] = {}
    for monomial, coefficient in value.terms:
        left: list[Atom] = []
        for atom in monomial:
            if not isinstance(atom, Var):
                return substitute(value, {name: index(n) for name, n in constants.items()})
            if atom.name in constants:
                coefficient *= constants[atom.name]
            else:
                left.append(atom)
        key = tuple(left)
        total[key] = total.get(key, 0) + coefficient
    return _canonical(total)


def _substitute_atom(atom: Atom, bindings: Mapping[str, Index]) -> Index:
    match atom:
        case Var(name):
            return bindings.get(name, index(name))
        case At(table, inner):
            return at(table, substitute(inner, bindings))
        case Binary(op, left, right):
            left, right = substitute(left, bindings), substitute(right, bindings)
            if op in ("//", "%"):
                return divide(left, right, op)
            return _extreme(op, left, right)


Tables = Callable[[str, int], int]
"""Reads element i of the table of that name."""
Evaluator = Callable[[Mapping[str, int]], int]
"""From the values of the variables to the value of an Index."""


def evaluator(value: Index, tables: Tables) -> Evaluator:
    """A function from variable values to the integer value.

    Works on NumPy integer arrays as well as on Python integers where no table is read.
    """
    terms = [(c, [_atom_evaluator(a, tables) for a in monomial]) for monomial, c in value.terms]

    def evaluate(env: Mapping[str, int]) -> int:
        total = 0
        for coefficient, atoms in terms:
            product = coefficient
            for atom in atoms:
                product = product * atom(env)
            total = total + product
        return total

    return evaluate


def _atom_evaluator(atom: Atom, tables: Tables) -> Evaluator:
    match atom:
        case Var(name):
            return lambda env: env[name]
        case At(table, inner):
            subscript = evaluator(inner, tables)
            return lambda env: tables(table, subscript(env))
        case Binary(op, left, right):
            a, b = evaluator(left, tables), evaluator(right, tables)
            if op == "//":
                return lambda env: a(env) // b(env)
            if op == "%":
                return lambda env: a(env) % b(env)
            choose = min if op == "min" else max
            return lambda env: choose(a(env), b(env))
