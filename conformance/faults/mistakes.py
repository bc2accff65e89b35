"""The mistakes to plant: in what a launch is given, in a stage, in a kernel's definition, in the
emitter, in a decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conformance.faults.plants import (
    Fault,
    activated,
    arguments,
    each,
    ifs,
    kernel,
    launched,
    loads,
    moved,
    one_less,
    params,
    result,
    sizes,
    spelled,
    stage,
    stored,
    swapped,
    tables,
    text,
)
from jit import llvm, llvm_primitives
from jit.decide import arena, decompose, fold
from jit.decide import recurrent as recurrent_layers
from jit.decide.draft import Draft
from jit.decide.taps import Kind
from jit.index import index, substitute
from jit.kernels import conv, definition
from jit.kernels import winograd as transforms
from jit.kernels.channelwise import ElementKernel, PoolKernel, RelayoutKernel
from jit.kernels.conv import ConvKernel
from jit.kernels.depthwise import DepthwiseKernel
from jit.kernels.gather import BlendKernel, EmbeddingKernel, TakeKernel
from jit.kernels.matmul import MatmulKernel
from jit.kernels.norms import LocalResponseKernel, NormKernel
from jit.kernels.plain import MapKernel, ReduceKernel
from jit.kernels.recurrent import CellKernel
from jit.kernels.winograd import WinogradInputKernel, WinogradOutputKernel
from jit.launches import Ref, channelwise, contraction, listed, recurrence
from jit.launches import winograd as tiles
from jit.launches.points import PointTables
from jit.program import Call, Const, If, Program, Store, map_stores
from jit.stages import apart


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


def _zeros(to: Any, size: int) -> Ref:
    return to.constants.add(np.zeros(size, np.float32))


def _one_less(kinds: tuple[list[Kind], np.ndarray]) -> tuple[list[Kind], np.ndarray]:
    return [(planes, rows[:-1]) for planes, rows in kinds[0]], kinds[1]


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


def _without_bias(draft: Draft) -> Draft:
    return draft if draft.bias is None else replace(draft, bias=np.zeros_like(draft.bias))


def _mirrored(axis: transforms.Sums) -> transforms.Sums:
    """The rows of a transform in the opposite order."""
    return replace(axis, rows=axis.rows[::-1])


def _two_points(made: PointTables) -> PointTables:
    """The first two points read each other's tiles."""
    other = np.where(made.point < 2, 1 - made.point, made.point)
    return replace(made, point=other)


def _last(params: Any, letter: str) -> str:
    """The parameter that is the stride of an operand's last axis, "" if it has none."""
    found = sorted(n for n in params if n[0] == letter and n[1:].isdigit())
    return found[-1] if found else ""


FAULTS = (
    Fault("the last, narrower tile is dropped",
          result(contraction, "regions", lambda made, *_: list(made)[:1])),
    Fault("the last, lower strip is dropped",
          launched(lambda made: [x for x in made if x.first_row == 0])),
    Fault("the input is read one element on", result(contraction, "corner", lambda n, *_: n + 1)),
    Fault("padding moves no corner", arguments(
        contraction, "corner", lambda x, pads, *rest: (x, ((0, 0),) * len(pads), *rest))),
    Fault("rows of tiles all read the first row", arguments(
        contraction, "corner", lambda x, pads, sizes, at: (x, pads, sizes, (at[0], 0, at[2])))),
    Fault("a row of the kernel too many is left out", result(
        contraction, "kinds_of_tiles", lambda made, *_: _one_less(made))),
    Fault("all rows of tiles use what the first does", result(
        contraction, "kinds_of_tiles", lambda made, *_: (made[0], np.zeros_like(made[1])))),
    Fault("columns of tiles all read the first column", arguments(
        contraction, "corner", lambda x, pads, sizes, at: (x, pads, sizes, (*at[:2], 0)))),
    Fault("a region of strips is stored over the first", arguments(
        contraction, "row_offset", lambda place, _, *rest: (place, 0, *rest))),
    Fault("the last column of a strip is dropped", tables(_first_short)),
    Fault("one weight of the last column is lost", tables(_drop_values)),
    Fault("columns read their neighbour's input", tables(
        lambda values, offsets, first, _: (values, np.roll(offsets, 1), first))),
    Fault("the bias is skipped", result(
        contraction, "pack", lambda refs, to, *more: {**refs, "bias": _zeros(to, more[-1]["F"])})),
    Fault("every region takes the first bias", arguments(
        contraction, "pack", lambda *args: (*args[:4], 0, *args[5:]))),
    Fault("the halo is not zeroed", result(channelwise, "margins", lambda *_: iter(()))),
    Fault("the last slab of the halo is not zeroed", result(
        channelwise, "margins", lambda made, *_: iter(list(made)[:-1]))),
    Fault("dilation is ignored", sizes(TH=1, TW=1, TD=1)),
    Fault("the stride of planes and rows is ignored", sizes(SD=1, SH=1)),
    Fault("only the first image is computed", sizes(N=1)),
    Fault("the residual is read one element on", moved((ConvKernel, DepthwiseKernel), "z", 1)),
    Fault("the output is stored one element on", moved(ConvKernel, "y", 1)),
    Fault("a scale is its neighbour's", moved(ElementKernel, "scale", 1)),
    Fault("the second operand is read one element on", moved((ElementKernel, MapKernel), "z", 1)),
    Fault("a window ends at the input though padding follows", params(
        PoolKernel, lambda p: {n: 0 if n[0] == "Q" else v for n, v in p.items()})),
    Fault("padding is not counted in averages", each(
        PoolKernel, lambda launch: replace(launch, kernel=replace(
            launch.kernel, divisor=launch.kernel.divisor.replace("padded_", ""))))),
    Fault("a window begins one element late", params(
        PoolKernel, lambda p: {n: max(0, v - 1) if n[0] == "P" else v for n, v in p.items()})),
    Fault("a relayout walks channels one element apart too far", params(
        RelayoutKernel, lambda p: {**p, "XC": p["XC"] + 1})),
    Fault("a relayout drops the last channel", params(
        RelayoutKernel, lambda p: {**p, "C": max(1, p["C"] - 1)})),
    Fault("the last tile of a row is not moved", stage("transpose", one_less("tile"))),
    Fault("the epilogue runs after the first block", stage("fuse", ifs(_late_epilogue))),
    Fault("every block begins at the bias", stage(
        "fuse", ifs(lambda s: replace(s, left=index(0)) if s.right == index(0) else s))),
    Fault("sums do not rest between blocks", stage("promote", ifs(_no_sums_loaded))),
    Fault("a run's columns all use lane 0", stage("reuse", loads("xreg", lambda _: index(0)))),
    Fault("all vectors of a strip use the first's weights", stage(
        "vectorise", loads("values", lambda i: substitute(i, {"fv": index(0)})))),
    Fault("a stage reads x one element on", stage("compact", loads("x", lambda i: i + 1))),
    Fault("the last strip is not computed", stage("compact", one_less("s"))),
    Fault("the last run of columns is not summed", stage("compact", one_less("j"))),
    Fault("the last block of channels is not written", stage("channels", one_less("cb"))),
    Fault("a task ends one iteration early", result(
        llvm._Function, "share",
        lambda ends, self, *_: (ends[0], self.op(f"sub i64 {ends[1]}, 1")))),
    Fault("loops run once more", text("icmp slt i64", "icmp sle i64")),
    Fault("a branch is taken the other way", text("icmp eq i64", "icmp ne i64")),
    Fault("maximum drops NaN", spelled("maximum", _deaf_maximum)),
    Fault("minimum is maximum", spelled("minimum", llvm_primitives.SPELLINGS["maximum"])),
    Fault("products are subtracted", text("fmul", "fsub")),
    Fault("polynomials end at the fourth power", arguments(
        llvm_primitives, "_horner", lambda out, lanes, x, series: (out, lanes, x, series[:4]))),
    Fault("polynomials end one power early", arguments(
        llvm_primitives, "_horner",
        lambda out, lanes, x, series: (out, lanes, x, series[:-1])), subtle=True),
    Fault("expm1 subtracts 1 everywhere", spelled("expm1", _cancelling_expm1), subtle=True),
    Fault("clamp has no upper limit", activated(_unclamped)),
    Fault("a slope has the wrong sign", activated(_steep)),
    Fault("maximum pooling begins at 0", result(
        definition, "naive_pool", lambda p, *_: stored(float("-inf"), 0.0)(p))),
    Fault("average pooling begins at 1", result(
        definition, "naive_pool", lambda p, *_: stored(0.0, 1.0)(p))),
    Fault("softmax subtracts no maximum", result(
        definition, "naive_softmax", lambda p, *_: _unshifted(p))),
    # -- what moves, reduces and multiplies whole tensors ---------------------------------------
    Fault("an operand repeats along its last axis", params(
        MapKernel, lambda p: {n: 0 if n == _last(p, "Z") else v for n, v in p.items()})),
    Fault("a transposed copy keeps the order of its outer axes", params(
        MapKernel, lambda p: {**p, **({"X0": p["X1"], "X1": p["X0"]} if "X1" in p else {})})),
    Fault("padding is 0 whatever it should be", each(
        MapKernel, lambda x: replace(x, kernel=replace(x.kernel, value=0.0)))),
    Fault("taken elements are read one on", moved(TakeKernel, "x", 1)),
    Fault("blends weigh their neighbours the wrong way round", swapped(BlendKernel, "w0", "w1")),
    Fault("an embedding reads one element on", moved(EmbeddingKernel, "table", 1)),
    Fault("a reduction leaves out the last element", params(
        ReduceKernel, lambda p: {**p, "R0": max(1, p["R0"] - 1)})),
    Fault("a mean is a sum", kernel(ReduceKernel, mean=False)),
    Fault("a norm subtracts no mean", kernel(NormKernel, kind="rms")),
    Fault("a norm forgets its epsilon", kernel(NormKernel, eps=0.0)),
    Fault("a norm's scale is its neighbour's", moved(NormKernel, "gamma", 1)),
    Fault("the window of local response begins a channel early", each(
        LocalResponseKernel, lambda x: replace(
            x, kernel=replace(x.kernel, before=x.kernel.before + 1)))),
    Fault("the last product of a matrix product is not summed", params(
        MatmulKernel, lambda p: {**p, "K": max(1, p["K"] - 1)})),
    Fault("the first factor of a batch serves all", params(
        MatmulKernel, lambda p: {**p, "A1": 0})),
    Fault("a depthwise filter is its neighbour's", moved(DepthwiseKernel, "w", 1)),
    Fault("a transposed convolution does not mirror its kernel", result(
        decompose, "_mirrored", lambda w, *_: w[..., ::-1])),
    # -- tile by tile ---------------------------------------------------------------------------
    Fault("a transform drops a term", arguments(
        transforms, "combine", lambda terms, *rest: (terms[:-1] or terms, *rest))),
    Fault("outputs of a tile are stored in the opposite order", result(
        transforms, "output_sums", lambda made, *_: [_mirrored(axis) for axis in made])),
    Fault("the last tile reads from one input early", params(
        WinogradInputKernel, lambda p: {**p, "LW": max(0, p["LW"] - 1)})),
    Fault("the last tile is stored one output early", params(
        WinogradOutputKernel, lambda p: {**p, "LW": max(0, p["LW"] - 1)})),
    Fault("the last tile is not stored", params(
        WinogradOutputKernel, lambda p: {**p, "TW": max(1, p["TW"] - 1)})),
    Fault("two points are mistaken for each other", result(
        tiles, "point_tables", lambda made, *_: _two_points(made))),
    Fault("a point's last channels are not summed", result(
        tiles, "point_tables", lambda made, *_: replace(
            made, last=np.maximum(made.last - 1, made.first)))),
    Fault("channels at a point read their neighbour's tiles", result(
        tiles, "point_tables", lambda made, *_: replace(made, channel=np.roll(made.channel, 1)))),
    Fault("every block of tiles reads the first", arguments(
        tiles._Work, "corner", lambda self, value, begin, pads: (
            self, value, (0,) * len(begin) if any(map(any, pads)) else begin, pads))),
    # -- recurrence ----------------------------------------------------------------------------
    Fault("every time is computed from the given state", arguments(
        recurrence._Recurrence, "moved", lambda self, made, _: (self, made, self.table.given))),
    Fault("every time reads the first input", arguments(
        recurrence._Recurrence, "cell", lambda self, kind, _, *more: (self, kind, 0, *more))),
    Fault("all gates read the first gate's input", params(CellKernel, lambda p: {**p, "ZG": 0})),
    Fault("a GRU resets after the product where it should before", result(
        recurrent_layers, "_kind", lambda kind, *_: kind.removesuffix("_reset_first"))),
    Fault("the cell state before is read one element on", moved(CellKernel, "c", 1)),
    # -- decisions -----------------------------------------------------------------------------
    Fault("groups read their neighbour's channels", result(fold, "_ungroup", _rolled)),
    Fault("folding loses the bias", arguments(
        fold, "_rename", lambda state, node, draft: (state, node, _without_bias(draft)))),
    Fault("values share memory", result(
        arena, "place_by_liveness", lambda made, *_: (
            {n: replace(p, offset=0) for n, p in made[0].items()}, made[1]))),
    # -- lists, and optimisations left out -----------------------------------------------------
    Fault("a tile of lists leaves its last position to the next one", result(
        listed, "covers", lambda made, *_: (made[0], np.maximum(made[1] - 1, 0)))),
    Fault("a kept weight is multiplied with its neighbour's input", result(
        listed, "_csr", lambda made, *_: {**made, "group": np.roll(made["group"], 1)})),
    Fault("kernels of one pattern are read by another", result(
        listed, "_fkw", lambda made, *_: {**made, "tap": made["tap"][::-1]})),
    Fault("of vectors that are summed apart the last is left out", result(
        apart, "_loop", lambda made, *_: made and replace(made, hi=made.hi - 1))),
)  # fmt: skip
"""Every mistake, most of them silent: nothing but a comparison of values shows them."""
