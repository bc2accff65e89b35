"""How a mistake is put into the compiler, and taken out again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from jit import launches, llvm, llvm_primitives, pipeline
from jit.index import Index
from jit.kernels import channelwise, conv, depthwise, plain
from jit.launches import Launch, Ref, contraction
from jit.program import (
    Block,
    Const,
    For,
    If,
    Load,
    Program,
    Store,
    map_stores,
    map_values,
)
from jit.program import map_loads as map_value_loads

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Fault:
    """A mistake: its name, and what puts it in place.

    subtle: an error of a few ulp, for which layers have too wide a bound; the check of primitives
    by themselves must see it.
    """

    name: str
    plant: Plant
    subtle: bool = False


@contextlib.contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """The compiler with the fault, and whole again afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        fault.plant(patch)
        pipeline.lower.cache_clear()
        try:
            yield
        finally:
            pipeline.lower.cache_clear()


def result(owner: object, name: str, change: Callable[..., Any]) -> Plant:
    """`owner.name(...)` gives change(result, *args) instead of its result."""
    original = getattr(owner, name)

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(owner, name, lambda *args, **more: change(original(*args, **more), *args))

    return plant


def arguments(owner: object, name: str, change: Callable[..., tuple]) -> Plant:
    """`owner.name(...)` is given change(*args) instead of its arguments."""
    original = getattr(owner, name)

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(owner, name, lambda *args, **more: original(*change(*args), **more))

    return plant


def sizes(**changes: int) -> Plant:
    """Every launch of a contraction is given other numbers, by parameter."""

    def change(sizes: dict[str, int], *_: Any) -> dict[str, int]:
        return {name: changes.get(name, n) for name, n in sizes.items()}

    return result(contraction, "conv_sizes", change)


def launched(change: Callable[[list[Launch]], list[Launch]]) -> Plant:
    """The launches of every step are changed."""
    return result(launches, "_launches", lambda made, *_: iter(change(list(made))))


def each(kernel: type | tuple[type, ...], change: Callable[[Any], Launch]) -> Plant:
    """Every launch of some kind of kernel is changed."""
    return launched(lambda made: [change(x) if isinstance(x.kernel, kernel) else x for x in made])


def params(
    kernel: type | tuple[type, ...], change: Callable[[Mapping[str, int]], Mapping[str, int]]
) -> Plant:
    """Every launch of some kind of kernel is given other numbers."""
    return each(kernel, lambda launch: replace(launch, params=change(launch.params)))


def kernel(kind: type, /, **changes: Any) -> Plant:
    """Every kernel of that kind is another one."""
    return each(kind, lambda launch: replace(launch, kernel=replace(launch.kernel, **changes)))


def moved(kernel: type | tuple[type, ...], buffer: str, elements: int) -> Plant:
    """One buffer of some kind of kernel begins some elements off."""

    def change(launch: Launch) -> Launch:
        refs = dict(launch.buffers)
        if buffer in refs:
            old = refs[buffer]
            refs[buffer] = Ref(old.segment, old.offset + 4 * elements)
        return replace(launch, buffers=tuple(refs.items()))

    return each(kernel, change)


def swapped(kernel: type, one: str, other: str) -> Plant:
    """Two buffers of some kind of kernel are mistaken for each other."""
    names = {one: other, other: one}
    return each(
        kernel,
        lambda launch: replace(
            launch, buffers=tuple((names.get(n, n), ref) for n, ref in launch.buffers)
        ),
    )


def tables(change: Callable[..., tuple]) -> Plant:
    """(values, offsets, first) of every region of strips."""
    return result(contraction, "tables", lambda made, *args: change(*made, args[3]))


def stage(name: str, change: Callable[[Program], Program]) -> Plant:
    """A stage's result is changed."""
    return result(pipeline, name, lambda program, *_: change(program))


def loops(change: Callable[[For], For]) -> Callable[[Program], Program]:
    """Every loop of a Program is changed."""

    def visit(block: Block) -> Block:
        result = []
        for s in block:
            if isinstance(s, For):
                s = change(replace(s, body=visit(s.body)))
            if isinstance(s, If):
                s = replace(s, then=visit(s.then), orelse=visit(s.orelse))
            result.append(s)
        return tuple(result)

    return lambda program: replace(program, body=visit(program.body))


def ifs(change: Callable[[If], If]) -> Callable[[Program], Program]:
    """Every branch of a Program is changed."""

    def visit(block: Block) -> Block:
        result = []
        for s in block:
            if isinstance(s, For):
                s = replace(s, body=visit(s.body))
            result.append(change(s) if isinstance(s, If) else s)
        return tuple(result)

    return lambda program: replace(program, body=visit(program.body))


def one_less(var: str) -> Callable[[Program], Program]:
    """A loop ends one iteration early."""
    return loops(lambda s: replace(s, hi=s.hi - 1) if s.var == var else s)


def loads(buffer: str, change: Callable[[Index], Index]) -> Callable[[Program], Program]:
    """The last subscript of every load of a buffer is changed."""

    def swap(x: Load) -> Load:
        if x.buffer != buffer:
            return x
        return replace(x, subscript=(*x.subscript[:-1], change(x.subscript[-1])))

    return lambda program: replace(
        program, body=map_values(program.body, lambda value: map_value_loads(value, swap))
    )


def stored(old: float, new: float) -> Callable[[Program], Program]:
    """Stores of one constant store another."""

    def swap(s: Store) -> Store:
        return replace(s, value=Const(new)) if s.value == Const(old) else s

    return lambda program: replace(program, body=map_stores(program.body, swap))


def text(old: str, new: str) -> Plant:
    """The text of every function that is emitted."""
    return result(llvm._Function, "define", lambda text, *_: text.replace(old, new))


def spelled(name: str, spell: Callable[..., str]) -> Plant:
    """A primitive is spelled otherwise."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setitem(llvm_primitives.SPELLINGS, name, spell)

    return plant


def activated(change: Callable[[Any, Any], Any]) -> Plant:
    """(activation, x) that kernels apply."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for module in (conv, channelwise, depthwise, plain):
            patch.setattr(module, "activate", change)

    return plant
