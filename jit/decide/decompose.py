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

from math import prod

import numpy as np

from jit.decide import movement
from jit.decide.rewriting import Rewriting, Rule
from refimpl.graph import Graph, Node, Shape

_VIEWS = ("reshape", "flatten", "identity")
_COMMUTE = ("add", "mul", "maximum", "minimum")


def decompose(graph: Graph) -> Graph:
    """The Graph with every node rewritten that a rule above names; it is checked first."""
    to = Rewriting(graph)
    for node in graph.nodes:
        rule = _RULES.get(node.op)
        if rule is None or not rule(to, node):
            to.keep(node)
    return to.result()


# -- contractions ------------------------------------------------------------------------------


def _conv_transpose(to: Rewriting, node: Node) -> bool:
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
    sizes = to.shapes[name]
    whole = [{"axis": i, "start": begin, "step": 1, "size": sizes[i]} for i, begin in cuts]
    return to.chain(node, y, [("cut", "slice", cut) for cut in whole])


def _stuffed(to: Rewriting, name: str, x: str, stride: Shape) -> str:
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


def _linear(to: Rewriting, node: Node) -> bool:
    x, w, *bias = node.inputs
    shape, filters = to.shapes[x], to.shapes[w][0]
    if len(shape) == 2:
        return False
    rows = to.add(f"{node.name}.rows", "reshape", x, shape=(prod(shape[:-1]), shape[-1]))
    y = to.add(f"{node.name}.product", "linear", rows, w, *bias)
    return to.end(node, "reshape", y, shape=(*shape[:-1], filters))


def _matmul(to: Rewriting, node: Node) -> bool:
    x, w = node.inputs
    if w not in to.constants or len(to.shapes[w]) != 2 or x in to.constants:
        return False
    name = to.constant(f"{node.name}.weight", to.constants[w].array.T)
    linear = Node(node.outputs, "linear", (x, name))
    return _linear(to, linear) or to.end(node, "linear", x, name)


# -- lookups ------------------------------------------------------------------------------------


def _embedding(to: Rewriting, node: Node) -> bool:
    indices, table = node.inputs
    source = indices
    while source in to.made and to.made[source].op in _VIEWS:
        source = to.made[source].inputs[0]
    if source == indices:
        return False
    y = to.add(f"{node.name}.rows", "embedding", source, table)
    return to.end(node, "reshape", y, shape=to.shapes[node.name])


# -- arithmetic --------------------------------------------------------------------------------


def _constant_second(to: Rewriting, node: Node) -> bool:
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
    "upsample": movement.upsample,
    "pad": movement.pad,
    "slice": movement.slice,
    "max_pool": movement.max_pool,
    "mean": movement.mean,
    "embedding": _embedding,
    **dict.fromkeys((*_COMMUTE, "sub"), _constant_second),
}
