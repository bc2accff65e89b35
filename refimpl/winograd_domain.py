"""Sparsity in the Winograd domain: convolutions rewritten over transformed kernels, then pruned.

A `winograd_conv` has the transformed kernel itself for its weight, so the schemes prune its points
as they prune taps: KGS keeps or drops a point for a whole group of filters by channels.  What is
pruned there is saved twice, in multiplications that Winograd had made few already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from refimpl.graph import (
    Constant,
    Graph,
    GraphError,
    Node,
    Shape,
    Sparsity,
    attributes,
    check,
    shapes,
)
from refimpl.names import unused
from refimpl.ops import OPERATORS, ShapeError
from refimpl.schemes import Scheme, Scope
from refimpl.winograd import point_gains, refit, taps, transform_weight, transforms


def to_winograd(graph: Graph, node: str, outputs: Sequence[int]) -> Graph:
    """The Graph with a convolution rewritten as a `winograd_conv` over its transformed kernel.

    The weight is transformed in float64 and rounded once; it gets a name of its own, the old one
    leaves with its last reader.

    Args:
        graph: checked.
        node: the name of a `conv` of stride, dilation and groups 1 with a constant weight.
        outputs: of a tile, along every spatial axis; 1 where the axis stays direct.

    Raises:
        GraphError: naming the node, and why it cannot be rewritten so.
    """
    old = _find(graph, node, "conv")
    _check_rewritable(graph, old)
    weight, m = graph.constants[old.inputs[1]].array, tuple(outputs)
    _check_tiles(graph, old, weight.shape, m)
    given = attributes(outputs=m, padding=old.attrs["padding"])
    name = unused(f"{old.inputs[1]}.points", shapes(graph))
    points = transform_weight(weight, transforms(m, weight.shape[2:]))
    points = np.moveaxis(points, (-2, -1), (0, 1)).astype(np.float32)
    new = Node(old.outputs, "winograd_conv", (old.inputs[0], name, *old.inputs[2:]), given)
    nodes = tuple(new if n is old else n for n in graph.nodes)
    read = {i for n in nodes for i in n.inputs} | set(graph.outputs)
    constants = {n: c for n, c in graph.constants.items() if n in read or n != old.inputs[1]}
    result = replace(graph, nodes=nodes, constants={**constants, name: Constant(points)})
    check(result)
    return result


def prune_points(
    graph: Graph, node: str, scheme: Scheme, keep: float, *, scope: Scope = "layer"
) -> Graph:
    """The Graph with the points of a `winograd_conv` pruned by what they are worth in the output.

    The mask is the scheme's projection of the weight times `refimpl.winograd.point_gains`, and
    the points that stay are fitted anew (`refimpl.winograd.refit`, rounded once): least squares
    of the output's error for white input.  By plain magnitude, and without the fit, F(4, 3) errs
    by more than the layer computes.

    Args:
        graph: checked.
        node: the name of a `winograd_conv` with a constant weight.
        scheme: of the weight (F, C, *T).
        keep: the share of points that stays, in (0, 1].
        scope: as `Scheme.project` takes it.

    Raises:
        GraphError: there is no such node, or its weight is no constant or serves others too.
        SchemeError: as `Scheme.project`.
    """
    found = _find(graph, node, "winograd_conv")
    name, m = _own_weight(graph, found), found.attrs["outputs"]
    weight = graph.constants[name].array
    kernel = taps(m, weight.shape[2:])
    mask = scheme.project(weight * point_gains(m, kernel), keep, scope=scope)
    fitted = refit(weight, mask, m, kernel).astype(np.float32)
    result = replace(
        graph,
        constants={**graph.constants, name: Constant(fitted)},
        sparsity={**graph.sparsity, name: Sparsity(scheme, Constant(mask))},
    )
    check(result)
    return result


def _find(graph: Graph, name: str, op: str) -> Node:
    node = next((n for n in graph.nodes if n.name == name), None)
    if node is None or node.op != op:
        found = "there is no such node" if node is None else f"it is a {node.op}"
        raise GraphError(f"node {name!r} is to be a {op}; {found}")
    return node


def _own_weight(graph: Graph, node: Node) -> str:
    name = node.inputs[1]
    readers = [n.name for n in graph.nodes if name in n.inputs]
    if name not in graph.constants or len(readers) > 1:
        why = "is no constant" if len(readers) == 1 else f"serves {', '.join(readers)}"
        raise GraphError(f"node {node.name!r}: its weight {name!r} {why}; it cannot be pruned")
    return name


def _check_rewritable(graph: Graph, node: Node) -> None:
    a, weight = node.attrs, node.inputs[1]
    if {*a["stride"], *a["dilation"], a["groups"]} != {1}:
        raise GraphError(
            f"node {node.name!r}: stride {a['stride']}, dilation {a['dilation']} and "
            f"{a['groups']} groups; Winograd is for 1 of each"
        )
    if weight not in graph.constants:
        raise GraphError(f"node {node.name!r}: its weight {weight!r} is no constant")
    if weight in graph.sparsity:
        raise GraphError(
            f"node {node.name!r}: its weight is pruned, and transformed it would be dense; "
            "rewrite the unpruned layer and prune the points"
        )


def _check_tiles(graph: Graph, node: Node, weight: Shape, outputs: Shape) -> None:
    """Refuse tiles that there are no transforms of, before anything is transformed."""
    kernel = weight[2:]
    if len(outputs) != len(kernel):
        raise GraphError(f"node {node.name!r}: no tiles of {outputs} outputs for a kernel {kernel}")
    points = tuple(m + r - 1 for m, r in zip(outputs, kernel, strict=True))
    given = {"outputs": outputs, "padding": node.attrs["padding"]}
    try:
        x = shapes(graph)[node.inputs[0]]
        OPERATORS["winograd_conv"].shape([x, (*weight[:2], *points)], given)
    except ShapeError as error:
        raise GraphError(f"node {node.name!r}: {error}") from error
