"""Operators without a kernel of their own, written with those that have one: Graph to Graph.

Both Graphs compute the same values under the same names; what is new between them is called after
the node that it comes from (`up1.stuffed`).  The rewrites:

    conv_transpose     zeros between the input's elements, then a convolution with the kernel
                       mirrored (Dumoulin and Visin, A guide to convolution arithmetic, section 4)
    linear             of any rank: on rows
    matmul             by a constant matrix: a linear layer, which packs its weight
    upsample           one axis at a time; nearest by `take`
    pad                other than by a constant: `take` along every padded axis
    slice              backwards: `take`
    max_pool           dilated: the maximum of slices, along one axis after another
    mean               over all positions of (N, C, *S): an adaptive average pool
    embedding          of reshaped indices: reshaped after it
    c - x              (-x) + c, which rounds the same; c * x, c + x: the constant second
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from jit.decide.names import unused
from refimpl import graph as graphs
from refimpl.graph import Constant, Graph, Node, Shape, attributes
from refimpl.ops import OPERATORS
from refimpl.ops.resampling import moving_axes, sources

_VIEWS = ("reshape", "flatten", "identity")
_COMMUTE = ("add", "mul", "maximum", "minimum")


def decompose(graph: Graph) -> Graph:
    """The Graph with every node rewritten that a rule above names; it is checked first."""
    return _Rewriting(graph).run()


class _Rewriting:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shapes: dict[str, Shape] = dict(graphs.shapes(graph))
        self.constants = dict(graph.constants)
        self.nodes: list[Node] = []
        self.made: dict[str, Node] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            rule = _RULES.get(node.op)
            if rule is None or not rule(self, node):
                self.keep(node)
        g = self.graph
        result = Graph(
            g.name, g.inputs, tuple(self.nodes), g.outputs, self.used_constants(), g.sparsity
        )
        graphs.check(result)
        return result

    def used_constants(self) -> dict[str, Constant]:
        """Constants that are still read, or that are outputs."""
        read = {name for node in self.nodes for name in node.inputs} | set(self.graph.outputs)
        return {name: c for name, c in self.constants.items() if name in read}

    def keep(self, node: Node) -> None:
        self.nodes.append(node)
        self.made[node.name] = node

    def constant(self, wanted: str, array: np.ndarray) -> str:
        name = unused(wanted, self.shapes)
        self.constants[name] = Constant(np.asarray(array, np.float32))
        self.shapes[name] = self.constants[name].array.shape
        return name

    def add(self, wanted: str, op: str, *inputs: str, **values: Any) -> str:
        """A node for a value in between."""
        name = unused(wanted, self.shapes)
        self.shapes[name] = OPERATORS[op].shape([self.shapes[i] for i in inputs], values)
        self.keep(Node((name,), op, inputs, attributes(**values)))
        return name

    def end(self, node: Node, op: str, *inputs: str, **values: Any) -> bool:
        """The node that takes the place of the one rewritten."""
        self.keep(Node(node.outputs, op, inputs, attributes(**values)))
        return True


Rule = Callable[[_Rewriting, Node], bool]
"""Adds what computes the node's values and returns True, or leaves it as it is."""


# -- contractions ------------------------------------------------------------------------------


def _conv_transpose(to: _Rewriting, node: Node) -> bool:
    x, w, *bias = node.inputs
    if w not in to.constants:
        return False
    a, name = node.attrs, node.name
    kernel = to.shapes[w][2:]
    x = _stuffed(to, name, x, a["stride"])
    lows, highs = [], []
    for i, k in enumerate(kernel):
        lo, hi = a["padding"][i]
        reach, stuffing = a["dilation"][i] * (k - 1), a["stride"][i] - 1
        lows.append(reach - lo)
        highs.append(reach - hi + a["output_padding"][i] - stuffing)
    values = {
        "stride": (1,) * len(kernel),
        "padding": tuple((max(lo, 0), max(hi, 0)) for lo, hi in zip(lows, highs, strict=True)),
        "dilation": a["dilation"],
        "groups": a["groups"],
    }
    mirrored = to.constant(f"{name}.mirrored", _mirrored(to.constants[w].array, a["groups"]))
    cuts = [(axis + 2, max(-lo, 0)) for axis, lo in enumerate(lows) if lo < 0 or highs[axis] < 0]
    if not cuts:
        return to.end(node, "conv", x, mirrored, *bias, **values)
    y = to.add(f"{name}.wide", "conv", x, mirrored, *bias, **values)
    *first, (axis, start) = cuts
    sizes = to.shapes[name]
    for i, begin in first:
        y = to.add(f"{name}.cut", "slice", y, axis=i, start=begin, step=1, size=sizes[i])
    return to.end(node, "slice", y, axis=axis, start=start, step=1, size=sizes[axis])


def _stuffed(to: _Rewriting, name: str, x: str, stride: Shape) -> str:
    """x with stride - 1 zeros behind every element along each axis."""
    if all(s == 1 for s in stride):
        return x
    n, c, *sizes = to.shapes[x]
    apart = (n, c, *(e for size in sizes for e in (size, 1)))
    padding = ((0, 0), (0, 0), *(p for s in stride for p in ((0, 0), (0, s - 1))))
    whole = (n, c, *(size * s for size, s in zip(sizes, stride, strict=True)))
    x = to.add(f"{name}.apart", "reshape", x, shape=apart)
    x = to.add(f"{name}.padded", "pad", x, padding=padding, mode="constant", value=0.0)
    return to.add(f"{name}.stuffed", "reshape", x, shape=whole)


def _mirrored(w: np.ndarray, groups: int) -> np.ndarray:
    """[C, F/G, *K] as the weight [F, C/G, *K] of a convolution, its kernel mirrored."""
    c, f, *kernel = w.shape
    w = w.reshape(groups, c // groups, f, *kernel).swapaxes(1, 2)
    axes = tuple(range(3, 3 + len(kernel)))
    return np.flip(w, axes).reshape(groups * f, c // groups, *kernel)


def _linear(to: _Rewriting, node: Node) -> bool:
    x, w, *bias = node.inputs
    shape, filters = to.shapes[x], to.shapes[w][0]
    if len(shape) == 2:
        return False
    rows = to.add(f"{node.name}.rows", "reshape", x, shape=(prod(shape[:-1]), shape[-1]))
    y = to.add(f"{node.name}.product", "linear", rows, w, *bias)
    return to.end(node, "reshape", y, shape=(*shape[:-1], filters))


def _matmul(to: _Rewriting, node: Node) -> bool:
    x, w = node.inputs
    if w not in to.constants or len(to.shapes[w]) != 2 or x in to.constants:
        return False
    name = to.constant(f"{node.name}.weight", to.constants[w].array.T)
    linear = Node(node.outputs, "linear", (x, name))
    return _linear(to, linear) or to.end(node, "linear", x, name)


# -- resampling and movement -------------------------------------------------------------------


def _upsample(to: _Rewriting, node: Node) -> bool:
    """One axis after another; an axis whose positions do not move is left out."""
    x, a = node.inputs[0], node.attrs
    rank = len(a["output"])
    moved = moving_axes(to.shapes[x][2:], a["output"], a["ratio"])
    if not moved:
        return to.end(node, "identity", x)
    for i in moved:
        last = i == moved[-1]
        sizes = to.shapes[x][2:]
        if a["mode"] == "nearest":
            read, _ = sources(sizes[i], a["output"][i], a["ratio"][i], "nearest", a["coordinates"])
            op, values = "take", {"axis": 2 + i, "indices": tuple(map(int, read[:, 0]))}
        else:
            op = "upsample"
            values = {
                "output": (*sizes[:i], a["output"][i], *sizes[i + 1 :]),
                "ratio": tuple(a["ratio"][j] if j == i else 1.0 for j in range(rank)),
                "mode": a["mode"],
                "coordinates": a["coordinates"],
            }
        if last and len(moved) == 1 and op == "upsample":
            return False
        if last:
            return to.end(node, op, x, **values)
        x = to.add(f"{node.name}.axis{2 + i}", op, x, **values)
    return False


def _pad(to: _Rewriting, node: Node) -> bool:
    x, a = node.inputs[0], node.attrs
    if a["mode"] == "constant":
        return False
    axes = [axis for axis, pair in enumerate(a["padding"]) if pair != (0, 0)]
    if not axes:
        return to.end(node, "identity", x)
    for axis in axes:
        # What NumPy makes of the indices themselves is which element each place repeats.
        indices = np.pad(np.arange(to.shapes[x][axis]), a["padding"][axis], a["mode"])
        values = {"axis": axis, "indices": tuple(int(i) for i in indices)}
        if axis == axes[-1]:
            return to.end(node, "take", x, **values)
        x = to.add(f"{node.name}.axis{axis}", "take", x, **values)
    return False


def _slice(to: _Rewriting, node: Node) -> bool:
    a = node.attrs
    if a["step"] > 0:
        return False
    indices = tuple(a["start"] + i * a["step"] for i in range(a["size"]))
    return to.end(node, "take", node.inputs[0], axis=a["axis"], indices=indices)


def _mean(to: _Rewriting, node: Node) -> bool:
    x, a = node.inputs[0], node.attrs
    rank = len(to.shapes[x])
    if not 3 <= rank <= 5 or a["axes"] != tuple(range(2, rank)):
        return False
    ones = (1,) * (rank - 2)
    if a["keepdims"]:
        return to.end(node, "adaptive_avg_pool", x, output=ones)
    pooled = to.add(f"{node.name}.pooled", "adaptive_avg_pool", x, output=ones)
    return to.end(node, "reshape", pooled, shape=to.shapes[node.name])


def _max_pool(to: _Rewriting, node: Node) -> bool:
    """A maximum over a window is one over each of its axes."""
    x, a, size = node.inputs[0], node.attrs, to.shapes[node.name]
    dilated = [i for i, d in enumerate(a["dilation"]) if d > 1 and a["kernel"][i] > 1]
    if not dilated:
        return False
    for i in dilated:
        x = _dilated_maximum(to, node, x, i, size[2 + i])
    undone = {"kernel": 1, "stride": 1, "padding": (0, 0), "dilation": 1}
    rest = {
        name: tuple(left if i in dilated else v for i, v in enumerate(a[name]))
        for name, left in undone.items()
    }
    rest["dilation"] = (1,) * len(rest["dilation"])
    return to.end(node, "max_pool", x, **rest, ceil_mode=a["ceil_mode"])


def _dilated_maximum(to: _Rewriting, node: Node, x: str, i: int, outputs: int) -> str:
    a, axis = node.attrs, 2 + i
    kernel, stride, dilation = a["kernel"][i], a["stride"][i], a["dilation"][i]
    lo, _ = a["padding"][i]
    reach = (outputs - 1) * stride + (kernel - 1) * dilation + 1
    pairs = [(0, 0)] * len(to.shapes[x])
    pairs[axis] = (lo, max(0, reach - lo - to.shapes[x][axis]))
    name = f"{node.name}.axis{axis}"
    x = to.add(name, "pad", x, padding=tuple(pairs), mode="constant", value=-math.inf)
    taps = [
        to.add(name, "slice", x, axis=axis, start=k * dilation, step=stride, size=outputs)
        for k in range(kernel)
    ]
    result, *others = taps
    for tap in others:
        result = to.add(name, "maximum", result, tap)
    return result


def _embedding(to: _Rewriting, node: Node) -> bool:
    indices, table = node.inputs
    source = indices
    while source in to.made and to.made[source].op in _VIEWS:
        source = to.made[source].inputs[0]
    if source == indices:
        return False
    y = to.add(f"{node.name}.rows", "embedding", source, table)
    return to.end(node, "reshape", y, shape=to.shapes[node.name])


# -- arithmetic --------------------------------------------------------------------------------


def _constant_second(to: _Rewriting, node: Node) -> bool:
    a, b = node.inputs
    if a not in to.constants or b in to.constants:
        return False
    if node.op in _COMMUTE:
        return to.end(node, node.op, b, a)
    if node.op == "sub":
        return to.end(node, "add", to.add(f"{node.name}.negative", "neg", b), a)
    return False


_RULES: dict[str, Rule] = {
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "matmul": _matmul,
    "upsample": _upsample,
    "pad": _pad,
    "slice": _slice,
    "max_pool": _max_pool,
    "mean": _mean,
    "embedding": _embedding,
    **dict.fromkeys((*_COMMUTE, "sub"), _constant_second),
}
