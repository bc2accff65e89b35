"""The few moves that all stages are made of: substitute, split, reorder, and the like.

Each takes and returns a value; none decides anything.  What a move needs to be legal is said in
its docstring and checked where it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from jit.index import At, Atom, Binary, Index, Var, at, divide, index, substitute
from jit.program import (
    Block,
    Call,
    For,
    If,
    Kind,
    Let,
    Load,
    Number,
    ProgramError,
    Statement,
    Store,
    Value,
)

Ranges = Mapping[str, int]  # variable -> exclusive upper bound; all start at 0


def bind(block: Block, bindings: Mapping[str, Index]) -> Block:
    """The block with free variables replaced by index expressions."""
    return map_indices(block, lambda i: substitute(i, bindings))


def map_indices(block: Block, change: Callable[[Index], Index]) -> Block:
    """The block with `change` applied to every index expression."""
    change = cache(change)  # unrolled bodies name the same places again and again

    def value(v: Value) -> Value:
        match v:
            case Load(buffer, subscript):
                return Load(buffer, tuple(map(change, subscript)))
            case Number(expression):
                return Number(change(expression))
            case Call(name, args):
                return Call(name, tuple(map(value, args)))
        return v

    def visit(s: Statement) -> Statement:
        match s:
            case Store(buffer, subscript, v):
                return Store(buffer, tuple(map(change, subscript)), value(v))
            case For(lo=lo, hi=hi, body=body):
                return replace(s, lo=change(lo), hi=change(hi), body=tuple(map(visit, body)))
            case If(left, right, then, orelse):
                return If(
                    change(left),
                    change(right),
                    tuple(map(visit, then)),
                    tuple(map(visit, orelse)),
                )
            case Let(name, v):
                return Let(name, change(v))
        return s

    return tuple(map(visit, block))


def perfect_nest(statement: Statement) -> tuple[list[For], Block]:
    """(loops from the outermost, the innermost body) of loops that hold nothing but a loop."""
    loops: list[For] = []
    block: Block = (statement,)
    while len(block) == 1 and isinstance(block[0], For):
        loops.append(block[0])
        block = block[0].body
    return loops, block


def rebuild(loops: Sequence[For], body: Block) -> Statement:
    """The loops around the body, the first one outermost."""
    for outer in reversed(loops):
        body = (replace(outer, body=body),)
    if len(body) != 1:
        raise ProgramError("a nest needs at least one loop")
    return body[0]


def reorder(statement: Statement, order: Sequence[str]) -> Statement:
    """The perfect nest with its loops in the order given.

    Legal where iterations may run in any order: init and epilogue nests write each element once,
    and a reduction only sums in another order. Bounds may depend only on loops further out.
    """
    loops, body = perfect_nest(statement)
    by_name = {outer.var: outer for outer in loops}
    if set(by_name) != set(order):
        raise ProgramError(f"loops {sorted(by_name)} cannot be put in the order {list(order)}")
    ordered = [by_name[name] for name in order]
    for depth, inner in enumerate(ordered):
        late = (inner.lo.names | inner.hi.names) & set(order[depth:])
        if late:
            raise ProgramError(f"loop {inner.var} depends on {sorted(late)}, which is not outside")
    return rebuild(ordered, body)


def split(statement: Statement, var: str, factor: int, outer: str, inner: str) -> Statement:
    """Loop `var` of the perfect nest as `outer` x `inner`, inner of extent `factor`.

    Legal where the extent is a multiple of the factor (the caller's Param says so).
    """
    loops, body = perfect_nest(statement)
    bindings = {var: index(outer) * factor + index(inner)}
    result: list[For] = []
    for old in loops:
        if old.var != var:
            lo, hi = substitute(old.lo, bindings), substitute(old.hi, bindings)
            result.append(replace(old, lo=lo, hi=hi))
            continue
        result.append(replace(old, var=outer, hi=old.hi // factor))
        result.append(For(inner, index(0), index(factor), ()))
    return rebuild(result, bind(body, bindings))


def mark(block: Block, kinds: Mapping[str, Kind]) -> Block:
    """The block with the kinds of the named loops set."""

    def visit(s: Statement) -> Statement:
        match s:
            case For(var=var, kind=kind, body=body):
                return replace(s, kind=kinds.get(var, kind), body=mark(body, kinds))
            case If(left, right, then, orelse):
                return If(left, right, mark(then, kinds), mark(orelse, kinds))
        return s

    return tuple(map(visit, block))


def simplify(value: Index, ranges: Ranges) -> Index:
    """The index with divisions resolved that the ranges of the variables decide.

    (g*A + u) // d = A // (d/g) and (g*A + u) % d = g*(A % (d/g)) + u, for 0 <= u < g and g | d.
    """
    total = index(0)
    for monomial, coefficient in value.terms:
        product = index(coefficient)
        for atom in monomial:
            product = product * _simplify_atom(atom, ranges)
        total = total + product
    return total


def _simplify_atom(atom: Atom, ranges: Ranges) -> Index:
    if isinstance(atom, Var) and ranges.get(atom.name) == 1:
        return index(0)
    if isinstance(atom, At):
        return at(atom.table, simplify(atom.index, ranges))
    if not isinstance(atom, Binary) or atom.op not in ("//", "%"):
        return Index((((atom,), 1),))
    left, d = simplify(atom.left, ranges), atom.right.constant
    if d is None:
        return divide(left, atom.right, atom.op)
    for g in (g for g in range(d, 0, -1) if d % g == 0):
        aligned = Index(tuple((m, c // g) for m, c in left.terms if c % g == 0))
        rest = Index(tuple((m, c) for m, c in left.terms if c % g))
        bound = _upper_bound(rest, ranges)
        if bound is not None and bound <= g:
            if atom.op == "//":
                return divide(aligned, index(d // g), "//")
            return divide(aligned, index(d // g), "%") * g + rest
    return divide(left, atom.right, atom.op)


def _upper_bound(value: Index, ranges: Ranges) -> int | None:
    """An exclusive upper bound if the index is surely >= 0, else None."""
    largest = 0
    for monomial, coefficient in value.terms:
        for atom in monomial:
            extent = ranges.get(str(atom))
            if extent is None:
                return None
            coefficient *= extent - 1
        if coefficient < 0:
            return None
        largest += coefficient
    return largest + 1
