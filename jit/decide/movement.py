"""Rules for what resamples, pads, cuts and pools: axis by axis, mostly by `take`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jit.decide.rewriting import Link, Rewriting
from refimpl.graph import Node, Shape
from refimpl.ops.resampling import moving_axes, sources


def upsample(to: Rewriting, node: Node) -> bool:
    """One axis after another; an axis whose positions do not move is left out."""
    x, a = node.inputs[0], node.attrs
    moved = moving_axes(to.shapes[x][2:], a["output"], a["ratio"])
    if not moved:
        return to.end(node, "identity", x)
    links = [(f"axis{2 + i}", *_resampled(a, to.shapes[x][2:], i)) for i in moved]
    if [op for _, op, _ in links] == ["upsample"]:
        return False
    return to.chain(node, x, links)


def _resampled(a: Mapping[str, Any], sizes: Shape, i: int) -> tuple[str, dict[str, Any]]:
    """The operator that moves along one axis, the ones before it done."""
    if a["mode"] == "nearest":
        read, _ = sources(sizes[i], a["output"][i], a["ratio"][i], "nearest", a["coordinates"])
        return "take", {"axis": 2 + i, "indices": tuple(map(int, read[:, 0]))}
    return "upsample", {
        "output": (*a["output"][: i + 1], *sizes[i + 1 :]),
        "ratio": tuple(r if j == i else 1.0 for j, r in enumerate(a["ratio"])),
        "mode": a["mode"],
        "coordinates": a["coordinates"],
    }


def pad(to: Rewriting, node: Node) -> bool:
    """What pads by elements of the input takes them, along one axis after another."""
    x, a = node.inputs[0], node.attrs
    if a["mode"] == "constant":
        return False
    axes = [axis for axis, pair in enumerate(a["padding"]) if pair != (0, 0)]
    if not axes:
        return to.end(node, "identity", x)
    return to.chain(node, x, [_taken(to.shapes[x][axis], a, axis) for axis in axes])


def _taken(size: int, a: Mapping[str, Any], axis: int) -> Link:
    """Which element each place of a padded axis repeats: what NumPy makes of the indices."""
    indices = np.pad(np.arange(size), a["padding"][axis], a["mode"])
    return f"axis{axis}", "take", {"axis": axis, "indices": tuple(map(int, indices))}


def slice(to: Rewriting, node: Node) -> bool:
    """Backwards, elements are taken one by one."""
    a = node.attrs
    if a["step"] > 0:
        return False
    indices = tuple(a["start"] + i * a["step"] for i in range(a["size"]))
    return to.end(node, "take", node.inputs[0], axis=a["axis"], indices=indices)


def mean(to: Rewriting, node: Node) -> bool:
    """Over all positions, it is a pooling."""
    x, a = node.inputs[0], node.attrs
    rank = len(to.shapes[x])
    if not 3 <= rank <= 5 or a["axes"] != tuple(range(2, rank)):
        return False
    ones = (1,) * (rank - 2)
    if a["keepdims"]:
        return to.end(node, "adaptive_avg_pool", x, output=ones)
    pooled = to.add(f"{node.name}.pooled", "adaptive_avg_pool", x, output=ones)
    return to.end(node, "reshape", pooled, shape=to.shapes[node.name])


def max_pool(to: Rewriting, node: Node) -> bool:
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


def _dilated_maximum(to: Rewriting, node: Node, x: str, i: int, outputs: int) -> str:
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
