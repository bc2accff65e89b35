"""Faults to plant in the compiler: a suite that misses them is not worth its time.

Each fault is one small mistake of the kind that people make in such code: in what a launch is
given, in a stage, in a kernel's definition, in the emitter, in a decision.  `planted` puts it in
place for the duration of a block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from jit import launches, llvm, llvm_primitives, pipeline
from jit.decide import arena, fold
from jit.index import Index, index, substitute
from jit.kernels import channelwise, conv
from jit.launches import Launch, Ref, contraction
from jit.launches import channelwise as channelwise_launches
from jit.program import (
    Block,
    Call,
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


# -- how mistakes are made ---------------------------------------------------------------------


def _result(owner: object, name: str, change: Callable[..., Any]) -> Plant:
    """`owner.name(...)` gives change(result, *args) instead of its result."""
    original = getattr(owner, name)

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(owner, name, lambda *args, **more: change(original(*args, **more), *args))

    return plant


def _arguments(owner: object, name: str, change: Callable[..., tuple]) -> Plant:
    """`owner.name(...)` is given change(*args) instead of its arguments."""
    original = getattr(owner, name)

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(owner, name, lambda *args, **more: original(*change(*args), **more))

    return plant


def _sizes(**changes: int) -> Plant:
    """Every launch of a convolution is given other numbers, by parameter."""

    def change(sizes: dict[str, int], *_: Any) -> dict[str, int]:
        return {name: changes.get(name, n) for name, n in sizes.items()}

    return _result(contraction, "conv_sizes", change)


def _each(op: str, change: Callable[[Launch], Launch]) -> Plant:
    """Every launch of a step of that operation is changed."""
    original = launches.RULES[op]

    def changed(*args: Any) -> Iterator[Launch]:
        return map(change, original(*args))

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setitem(launches.RULES, op, changed)
        if original is channelwise_launches.element:
            patch.setattr(channelwise_launches, "element", changed)

    return plant


def _params(op: str, change: Callable[[Mapping[str, int]], Mapping[str, int]]) -> Plant:
    """The launches of an operation are given other numbers."""
    return _each(op, lambda launch: replace(launch, params=change(launch.params)))


def _off(launch: Launch, buffer: str, elements: int) -> Launch:
    """One buffer of a launch begins some elements off."""
    refs = dict(launch.buffers)
    if buffer in refs:
        old = refs[buffer]
        refs[buffer] = Ref(old.segment, old.offset + 4 * elements)
    return replace(launch, buffers=tuple(refs.items()))


def _tables(change: Callable[..., tuple]) -> Plant:
    """(values, offsets, first) of every region of strips."""
    return _result(contraction, "tables", lambda made, *args: change(*made, args[3]))


def _stage(name: str, change: Callable[[Program], Program]) -> Plant:
    """A stage's result is changed."""
    return _result(pipeline, name, lambda program, *_: change(program))


def _loops(change: Callable[[For], For]) -> Callable[[Program], Program]:
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


def _ifs(change: Callable[[If], If]) -> Callable[[Program], Program]:
    def visit(block: Block) -> Block:
        result = []
        for s in block:
            if isinstance(s, For):
                s = replace(s, body=visit(s.body))
            result.append(change(s) if isinstance(s, If) else s)
        return tuple(result)

    return lambda program: replace(program, body=visit(program.body))


def _one_less(var: str) -> Callable[[Program], Program]:
    return _loops(lambda s: replace(s, hi=s.hi - 1) if s.var == var else s)


def _loads(buffer: str, change: Callable[[Index], Index]) -> Callable[[Program], Program]:
    """The last subscript of every load of a buffer is changed."""

    def swap(x: Load) -> Load:
        if x.buffer != buffer:
            return x
        return replace(x, subscript=(*x.subscript[:-1], change(x.subscript[-1])))

    return lambda program: replace(
        program, body=map_values(program.body, lambda value: map_value_loads(value, swap))
    )


def _stored(old: float, new: float) -> Callable[[Program], Program]:
    """Stores of one constant store another."""

    def swap(s: Store) -> Store:
        return replace(s, value=Const(new)) if s.value == Const(old) else s

    return lambda program: replace(program, body=map_stores(program.body, swap))


def _text(old: str, new: str) -> Plant:
    """The text of every function that is emitted."""
    return _result(llvm._Function, "define", lambda text, *_: text.replace(old, new))


def _spelled(name: str, spell: Callable[..., str]) -> Plant:
    """A primitive is spelled otherwise."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setitem(llvm_primitives.SPELLINGS, name, spell)

    return plant


def _activated(change: Callable[[Any, Any], Any]) -> Plant:
    """(activation, x) that kernels apply."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for module in (conv, channelwise):
            patch.setattr(module, "activate", change)

    return plant


# -- the mistakes ------------------------------------------------------------------------------


def _drop_values(values, offsets, first, strips):
    last = strips[-1].rows.size
    if values.size:
        values = values.copy()
        values[-last:] = 0
    return values, offsets, first


def _first_short(values, offsets, first, _):
    first = first.copy()
    first[-1] = max(first[-1] - 1, first[-2])
    return values, offsets, first


def _zeros(lowering: Any, kernel: Any, strips: list) -> Ref:
    return lowering.constants.add(np.zeros(kernel.rows * len(strips), np.float32))


def _late_epilogue(s: If) -> If:
    return replace(s, right=index(0)) if s.right != index(0) else s


def _no_sums_loaded(s: If) -> If:
    """The other blocks of channels begin at zero instead of the sums so far."""
    zeroed = map_stores(s.orelse, lambda store: replace(store, value=Const(0.0)))
    return replace(s, orelse=zeroed)


def _deaf_maximum(out, lanes, a, b):
    """x > c ? x : c, which gives c for NaN."""
    kind = llvm_primitives.vector_type(lanes)
    return llvm_primitives.select(out, lanes, f"fcmp ogt {kind} {a}, {b}", a, b)


def _cancelling_expm1(out, lanes, x):
    one = llvm_primitives.constant(1.0, lanes)
    return llvm_primitives._sub(out, lanes, llvm_primitives._exp(out, lanes, x), one)


def _unclamped(activation, x):
    name, numbers = activation
    if name == "clamp":
        return conv.call("maximum", x, Const(numbers[0]))
    return _ACTIVATE(activation, x)


def _steep(activation, x):
    name, numbers = activation
    if name == "leaky_relu":
        numbers = (-numbers[0],)
    return _ACTIVATE((name, numbers), x)


_ACTIVATE = conv.activate


def _unshifted(program: Program) -> Program:
    """Softmax of x itself: nothing subtracts the maximum."""

    def swap(s: Store) -> Store:
        match s.value:
            case Call("exp", (Call("sub", (x, _)),)):
                return replace(s, value=Call("exp", (x,)))
        return s

    return replace(program, body=map_stores(program.body, swap))


def _rolled(ungrouped: tuple[np.ndarray, np.ndarray], w: np.ndarray, *_: Any) -> tuple:
    """Each group reads its neighbour's channels."""
    return tuple(np.roll(a, w.shape[1] if a.shape != w.shape else 0, axis=1) for a in ungrouped)


def _without_bias(draft: fold.Draft) -> fold.Draft:
    return draft if draft.bias is None else replace(draft, bias=np.zeros_like(draft.bias))


FAULTS = (
    Fault("the last, narrower tile is dropped",
          _result(contraction, "regions", lambda made, *_: list(made)[:1])),
    Fault("the last, lower strip is dropped",
          _result(contraction, "contract", lambda made, *_: (x for x in made if x.first_row == 0))),
    Fault("the input is read one element on", _result(contraction, "corner", lambda n, *_: n + 1)),
    Fault("padding moves no corner", _arguments(
        contraction, "corner", lambda x, pads, *rest: (x, ((0, 0),) * len(pads), *rest))),
    Fault("rows of tiles all read the first row", _arguments(
        contraction, "corner", lambda x, pads, sizes, _, w0: (x, pads, sizes, 0, w0))),
    Fault("columns of tiles all read the first column", _arguments(
        contraction, "corner", lambda x, pads, sizes, h0, _: (x, pads, sizes, h0, 0))),
    Fault("a region of strips is stored over the first", _arguments(
        contraction, "row_offset", lambda place, _, *rest: (place, 0, *rest))),
    Fault("the last column of a strip is dropped", _tables(_first_short)),
    Fault("one weight of the last column is lost", _tables(_drop_values)),
    Fault("columns read their neighbour's input", _tables(
        lambda values, offsets, first, _: (values, np.roll(offsets, 1), first))),
    Fault("the bias is skipped", _result(
        contraction, "pack", lambda refs, to, *more: {**refs, "bias": _zeros(to, *more[1:3])})),
    Fault("every region takes the first bias", _arguments(
        contraction, "pack", lambda *args: (*args[:4], 0, *args[5:]))),
    Fault("the halo is not zeroed", _result(channelwise_launches, "margins", lambda *_: iter(()))),
    Fault("the last slab of the halo is not zeroed", _result(
        channelwise_launches, "margins", lambda made, *_: iter(list(made)[:-1]))),
    Fault("dilation is ignored", _sizes(TH=1, TW=1, TD=1)),
    Fault("the stride of planes and rows is ignored", _sizes(SD=1, SH=1)),
    Fault("only the first image is computed", _sizes(N=1)),
    Fault("the residual is read one element on", _result(
        contraction, "conv_launch", lambda made, *_: _off(made, "z", 1))),
    Fault("the output is stored one element on", _result(
        contraction, "conv_launch", lambda made, *_: _off(made, "y", 1))),
    Fault("a scale is its neighbour's", _each("affine", lambda x: _off(x, "scale", 1))),
    Fault("the second operand is read one element on", _each("affine", lambda x: _off(x, "z", 1))),
    Fault("a window ends at the input though padding follows", _params(
        "avg_pool", lambda p: {n: 0 if n[0] == "Q" else v for n, v in p.items()})),
    Fault("padding is not counted in averages", _each(
        "avg_pool", lambda launch: replace(launch, kernel=replace(
            launch.kernel, divisor=launch.kernel.divisor.replace("padded_", ""))))),
    Fault("a window begins one element late", _params(
        "max_pool", lambda p: {n: max(0, v - 1) if n[0] == "P" else v for n, v in p.items()})),
    Fault("a relayout walks channels one element apart too far", _params(
        "relayout", lambda p: {**p, "XC": p["XC"] + 1})),
    Fault("a relayout drops the last channel", _params(
        "relayout", lambda p: {**p, "C": max(1, p["C"] - 1)})),
    Fault("the epilogue runs after the first block", _stage("fuse", _ifs(_late_epilogue))),
    Fault("every block begins at the bias", _stage(
        "fuse", _ifs(lambda s: replace(s, left=index(0)) if s.right == index(0) else s))),
    Fault("sums do not rest between blocks", _stage("promote", _ifs(_no_sums_loaded))),
    Fault("a run's columns all use lane 0", _stage("reuse", _loads("xreg", lambda _: index(0)))),
    Fault("all vectors of a strip use the first's weights", _stage(
        "vectorise", _loads("values", lambda i: substitute(i, {"fv": index(0)})))),
    Fault("a stage reads x one element on", _stage("compact", _loads("x", lambda i: i + 1))),
    Fault("the last strip is not computed", _stage("compact", _one_less("s"))),
    Fault("the last run of columns is not summed", _stage("compact", _one_less("j"))),
    Fault("the last block of channels is not written", _stage("channels", _one_less("cb"))),
    Fault("a task ends one iteration early", _result(
        llvm._Function, "share",
        lambda ends, self, *_: (ends[0], self.op(f"sub i64 {ends[1]}, 1")))),
    Fault("loops run once more", _text("icmp slt i64", "icmp sle i64")),
    Fault("a branch is taken the other way", _text("icmp eq i64", "icmp ne i64")),
    Fault("maximum drops NaN", _spelled("maximum", _deaf_maximum)),
    Fault("minimum is maximum", _spelled("minimum", llvm_primitives.SPELLINGS["maximum"])),
    Fault("products are subtracted", _text("fmul", "fsub")),
    Fault("polynomials end at the fourth power", _arguments(
        llvm_primitives, "_horner", lambda out, lanes, x, series: (out, lanes, x, series[:4]))),
    Fault("polynomials end one power early", _arguments(
        llvm_primitives, "_horner",
        lambda out, lanes, x, series: (out, lanes, x, series[:-1])), subtle=True),
    Fault("expm1 subtracts 1 everywhere", _spelled("expm1", _cancelling_expm1), subtle=True),
    Fault("clamp has no upper limit", _activated(_unclamped)),
    Fault("a slope has the wrong sign", _activated(_steep)),
    Fault("maximum pooling begins at 0", _result(
        pipeline, "naive_pool", lambda p, *_: _stored(float("-inf"), 0.0)(p))),
    Fault("average pooling begins at 1", _result(
        pipeline, "naive_pool", lambda p, *_: _stored(0.0, 1.0)(p))),
    Fault("softmax subtracts no maximum", _result(
        pipeline, "naive_softmax", lambda p, *_: _unshifted(p))),
    Fault("groups read their neighbour's channels", _result(fold, "_ungroup", _rolled)),
    Fault("folding loses the bias", _arguments(
        fold, "_rename", lambda state, node, draft: (state, node, _without_bias(draft)))),
    Fault("values share memory", _result(
        arena, "place_by_liveness", lambda made, *_: (
            {n: replace(p, offset=0) for n, p in made[0].items()}, made[1]))),
)  # fmt: skip
"""Every mistake, most of them silent: nothing but a comparison of values shows them."""
