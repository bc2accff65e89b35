"""Folding: from nodes to drafts, as few as will do.

Batch norms go into weights and biases (in float64, rounded once), grouped convolutions become
blocks on the diagonal, activations and additions join what they follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from jit.decide.draft import Draft, Folding, reshaped
from jit.decide.recurrent import OPERATORS as RECURRENT
from jit.decide.recurrent import recurrent
from jit.kernels.activation import ATTRIBUTES
from refimpl import graph as graphs
from refimpl.graph import Graph, Node, Shape, attributes
from refimpl.plan import CHANNELWISE, CONVOLUTIONS, DEEPEST, ELEMENTWISE, PLAIN, PlanError
from refimpl.winograd import taps

_RESHAPES = ("flatten", "reshape", "identity")
_POOLS = tuple(op for op in CHANNELWISE if op.endswith("_pool"))
_PAIRS = tuple(op for op in ELEMENTWISE if op != "activation")
_FUSIBLE = (*CONVOLUTIONS, "depthwise", "affine", *_PAIRS)


@dataclass(frozen=True)
class Folded:
    """Drafts in a legal order, the value that holds each output, and the shape of every value."""

    drafts: tuple[Draft, ...]
    outputs: Mapping[str, str]
    shapes: Mapping[str, Shape]


def fold(graph: Graph, *, fuses: bool = True) -> Folded:
    """The drafts of a Graph; those that no output needs are left out.

    Args:
        graph: decomposed.
        fuses: whether biases, batch norms, additions and activations join convolutions; else they
            are steps of their own.

    Raises:
        PlanError: naming the node that cannot be compiled.
    """
    shapes = graphs.shapes(graph)
    for name, shape in shapes.items():
        if len(shape) > DEEPEST:
            raise PlanError(f"{name}: {shape} has more than {DEEPEST} axes")
    state = Folding(graph, shapes, _aliases(graph, shapes), fuses)
    for node in graph.nodes:
        if node.name not in state.aliases:
            _fold_node(state, node)
    outputs = {name: state.source(name) for name in graph.outputs}
    return Folded(_needed(state.drafts, set(outputs.values())), outputs, state.shapes)


def _needed(drafts: Mapping[str, Draft], wanted: set[str]) -> tuple[Draft, ...]:
    """The drafts that the wanted values depend on, in their order."""
    kept = []
    for draft in reversed(list(drafts.values())):
        if draft.name in wanted:
            kept.append(draft)
            wanted |= {*draft.inputs, draft.residual}
    return tuple(reversed(kept))


def _aliases(graph: Graph, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """For every reshape that changes nothing, the value whose numbers it passes on."""
    aliases: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in _RESHAPES and shapes[node.name] == shapes[node.inputs[0]]:
            aliases[node.name] = aliases.get(node.inputs[0], node.inputs[0])
    return aliases


def _fold_node(state: Folding, node: Node) -> None:
    if node.op in (*CONVOLUTIONS, "linear"):
        _contraction(state, node)
    elif node.op == "batch_norm":
        _batch_norm(state, node)
    elif node.op in ATTRIBUTES:
        _activation(state, node)
    elif node.op in _PAIRS:
        _pair(state, node)
    elif node.op in _RESHAPES:
        _reshape(state, node)
    elif node.op in RECURRENT:
        recurrent(state, node)
    elif node.op in _POOLS or node.op in PLAIN:
        _check_supported(state, node)
        state.emit(
            node, Draft(node.name, node.op, tuple(map(state.source, node.inputs)), node.attributes)
        )
    else:
        raise PlanError(
            f"{node.name}: `{node.op}` cannot be compiled yet; it runs in the reference only"
        )


def _check_supported(state: Folding, node: Node) -> None:
    if node.op == "embedding" and node.inputs[0] not in dict(state.graph.inputs):
        raise PlanError(f"{node.name}: an embedding is compiled of an input's indices only")


def _contraction(state: Folding, node: Node) -> None:
    """A convolution; a linear layer becomes one over the whole of what a flatten flattened."""
    weight, stored = state.array(node, 1), state.mask(node, 1)
    value, _, *biased = node.inputs
    bias = state.array(node, 2) if biased else np.zeros(len(weight), np.float32)
    source, dense = state.source(value), weight.size
    given = tuple(a for a in node.attributes if a[0] != "groups")
    op, groups = "conv", node.attrs.get("groups", 1)
    if node.op == "winograd_conv":
        op, kernel = node.op, taps(node.attrs["outputs"], weight.shape[2:])
        dense = prod((*weight.shape[:2], *kernel))
    elif node.op == "linear":
        source, unflattened = _before_flatten(state, node)
        weight, stored = weight.reshape(unflattened), stored.reshape(unflattened)
        rank = weight.ndim - 2
        given = attributes(stride=(1,) * rank, padding=((0, 0),) * rank, dilation=(1,) * rank)
    elif groups > 1 and groups == len(weight) == state.shapes[value][1]:
        op = "depthwise"
    else:
        weight, stored = _ungroup(weight, stored, groups)
    if biased and not state.fuses:
        nothing = np.zeros_like(bias)
        product = state.between(f"{node.name}.product", state.shapes[node.name])
        draft = Draft(product, op, (source,), given, weight, stored, nothing, dense_weights=dense)
        source = state.add(draft)
        draft = Draft(node.name, "affine", (source,), weight=np.ones_like(bias), bias=bias)
        state.emit(node, draft)
        return
    state.emit(
        node, Draft(node.name, op, (source,), given, weight, stored, bias, dense_weights=dense)
    )


def _before_flatten(state: Folding, node: Node) -> tuple[str, Shape]:
    """(the input of a linear layer, its weight's shape), looking through a flatten."""
    filters = state.shapes[node.inputs[1]][0]
    source = state.source(node.inputs[0])
    draft = state.drafts.get(source)
    if draft is not None and draft.op == "relayout" and state.read_once(source):
        before = state.shapes[draft.inputs[0]]
        flat = state.shapes[node.inputs[0]]
        if len(flat) == 2 and flat[0] == before[0]:
            del state.drafts[source]
            return draft.inputs[0], (filters, *before[1:])
    shape = state.shapes[node.inputs[0]]
    if len(shape) != 2:
        raise PlanError(f"{node.name}: linear is compiled for (N, C) only, not {shape}")
    return source, (filters, shape[1])


def _ungroup(w: np.ndarray, stored: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """A grouped convolution as one whose weight is absent off the diagonal blocks."""
    if groups == 1:
        return w, stored
    f, c, *kernel = w.shape
    whole = np.zeros((f, c * groups, *kernel), w.dtype)
    mask = np.zeros(whole.shape, bool)
    for g in range(groups):
        rows, columns = slice(g * f // groups, (g + 1) * f // groups), slice(g * c, (g + 1) * c)
        whole[rows, columns], mask[rows, columns] = w[rows], stored[rows]
    return whole, mask


def _open_contraction(state: Folding, value: str) -> Draft | None:
    """The convolution that computes `value`, if nothing else reads it and nothing follows yet."""
    source = state.source(value)
    draft = state.drafts.get(source)
    weighted = draft is not None and draft.op in (*CONVOLUTIONS, "depthwise")
    is_open = draft is not None and weighted and not draft.activation
    return draft if state.fuses and is_open and state.read_once(value) else None


def _batch_norm(state: Folding, node: Node) -> None:
    gamma, beta, mean, var = (state.array(node, i).astype(np.float64) for i in range(1, 5))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(var + node.attrs["eps"])
        shift = beta - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        # Folded, 0 * infinity would make weights of pruned places.
        raise PlanError(f"{node.name}: its scale or shift is not finite; is a variance 0?")
    draft = _open_contraction(state, node.inputs[0])
    if draft is None or draft.residual:
        state.emit(
            node,
            Draft(
                node.name,
                "affine",
                (state.source(node.inputs[0]),),
                weight=scale.astype(np.float32),
                bias=shift.astype(np.float32),
            ),
        )
        return
    assert draft.weight is not None
    assert draft.bias is not None
    per_filter = scale.reshape(-1, *[1] * (draft.weight.ndim - 1))
    weight = (draft.weight * per_filter).astype(np.float32)
    bias = (draft.bias * scale + shift).astype(np.float32)
    _rename(state, node, replace(draft, weight=weight, bias=bias))


def _rename(state: Folding, node: Node, draft: Draft) -> None:
    """The draft now computes this node's value; it runs no earlier than its new inputs."""
    del state.drafts[draft.name]
    state.emit(node, replace(draft, name=node.name))


def _activation(state: Folding, node: Node) -> None:
    given = (node.attrs[a] for a in ATTRIBUTES[node.op])
    activation = (node.op, tuple(v if isinstance(v, str) else float(v) for v in given))
    source = state.source(node.inputs[0])
    draft = state.drafts.get(source)
    fusible = state.fuses and draft is not None and draft.op in _FUSIBLE
    if draft is not None and fusible and not draft.activation and state.read_once(source):
        _rename(state, node, replace(draft, activation=activation))
        return
    state.emit(node, Draft(node.name, "activation", (source,), activation=activation))


def _pair(state: Folding, node: Node) -> None:
    """An operator of two values; an addition joins a convolution as its residual or its bias."""
    a, b = node.inputs
    if node.op == "add" and a != b and not _joined(state, node, a, b):
        _joined(state, node, b, a)
    if node.name not in state.drafts:
        state.emit(node, Draft(node.name, node.op, (state.source(a), state.source(b))))


def _joined(state: Folding, node: Node, other: str, value: str) -> bool:
    """Add `other` within the convolution that computes `value`, where that can be."""
    draft = _open_contraction(state, value)
    if draft is None or draft.residual or state.shapes[node.name] != state.shapes[value]:
        return False
    if other not in state.graph.constants:
        if state.shapes[other] == state.shapes[value]:
            _rename(state, node, replace(draft, residual=state.source(other)))
            return True
        return False
    constant = state.graph.constants[other].array.astype(np.float64)
    shape = (1,) * (len(state.shapes[value]) - constant.ndim) + constant.shape
    if constant.size not in (1, shape[1]):
        return False
    assert draft.bias is not None
    bias = (draft.bias + constant.reshape(-1)).astype(np.float32)
    _rename(state, node, replace(draft, bias=bias))
    return True


def _reshape(state: Folding, node: Node) -> None:
    value = node.inputs[0]
    before, after = state.shapes[value], state.shapes[node.name]
    state.emit(node, reshaped(node.name, state.source(value), before, after))
