"""Folding: batch norms into weights, grouped convolutions into block structure, and fusion.

A `Draft` is a step before it is scheduled.  Weights are folded in float64 and rounded once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from jit.kernels.activation import ATTRIBUTES, Activation
from refimpl.graph import Attributes, Graph, Node, Shape
from refimpl.plan import PlanError

_RESHAPES = ("flatten", "reshape", "identity")
_POOLS = ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")


@dataclass(frozen=True)
class Draft:
    """A step with its arrays: weight and stored mask (F, C, *K), or scale; bias, or shift."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Attributes = ()
    weight: np.ndarray | None = None
    stored: np.ndarray | None = None
    bias: np.ndarray | None = None
    residual: str = ""
    activation: Activation | None = None
    covers: tuple[str, ...] = ()
    dense_weights: int = 0


@dataclass
class _Folding:
    graph: Graph
    shapes: Mapping[str, Shape]
    aliases: Mapping[str, str]
    drafts: dict[str, Draft] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        # Under whichever name it is read: a value with two readers must stay, aliases or not.
        self.uses.update(self.source(name) for name in self.graph.outputs)
        for node in self.graph.nodes:
            if node.name not in self.aliases:
                self.uses.update(self.source(name) for name in node.inputs)

    def source(self, value: str) -> str:
        """The value that holds the same numbers in the same shape."""
        return self.aliases.get(value, value)

    def read_once(self, value: str) -> bool:
        """True if one node reads these numbers and no output holds them."""
        return self.uses[self.source(value)] == 1


def fold(graph: Graph, shapes: Mapping[str, Shape]) -> tuple[list[Draft], dict[str, str]]:
    """Drafts in a legal order, and for each graph output the value that holds it.

    Raises PlanError naming the node that cannot be compiled.
    """
    for name in (*(name for name, _ in graph.inputs), *(node.name for node in graph.nodes)):
        if not 2 <= len(shapes[name]) <= 5:
            raise PlanError(
                f"{name}: shape {shapes[name]} cannot be compiled; only (N, C) and (N, C, ...) "
                "with up to 3 spatial axes"
            )
    state = _Folding(graph, shapes, _aliases(graph, shapes))
    for node in graph.nodes:
        if node.name not in state.aliases:
            _fold_node(state, node)
    outputs = {name: state.source(name) for name in graph.outputs}
    reads = [(draft.name, value) for draft in state.drafts.values() for value in draft.inputs]
    for name, value in (*reads, *outputs.items()):
        if value in graph.constants:
            raise PlanError(f"{name}: the constant {value} as a value cannot be compiled yet")
    return list(state.drafts.values()), outputs


def _aliases(graph: Graph, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """For every reshape that changes nothing, the value whose numbers it passes on."""
    aliases: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in _RESHAPES and shapes[node.name] == shapes[node.inputs[0]]:
            aliases[node.name] = aliases.get(node.inputs[0], node.inputs[0])
    return aliases


def _fold_node(state: _Folding, node: Node) -> None:
    if node.op in ("conv", "linear"):
        _contraction(state, node)
    elif node.op == "batch_norm":
        _batch_norm(state, node)
    elif node.op in ATTRIBUTES:
        _activation(state, node)
    elif node.op in ("add", "sub", "mul"):
        _arithmetic(state, node)
    elif node.op in _RESHAPES:
        _reshape(state, node)
    elif node.op in _POOLS or node.op == "softmax":
        _check_supported(state, node)
        _emit(
            state, node, Draft(node.name, node.op, (state.source(node.inputs[0]),), node.attributes)
        )
    else:
        raise PlanError(
            f"{node.name}: `{node.op}` cannot be compiled yet; it runs in the reference only"
        )


def _emit(state: _Folding, node: Node, draft: Draft) -> None:
    state.drafts[draft.name] = replace(draft, covers=(*draft.covers, node.name))


def _check_supported(state: _Folding, node: Node) -> None:
    attributes, shape = node.attrs, state.shapes[node.inputs[0]]
    if node.op == "max_pool" and any(d != 1 for d in attributes["dilation"]):
        raise PlanError(f"{node.name}: dilated max pooling cannot be compiled yet")
    if node.op == "softmax" and (len(shape) != 2 or attributes["axis"] not in (1, -1)):
        raise PlanError(f"{node.name}: softmax is compiled for (N, C) over C only, not {shape}")


def _array(state: _Folding, node: Node, position: int) -> np.ndarray:
    name = node.inputs[position]
    if name not in state.graph.constants:
        raise PlanError(f"{node.name}: input {position} ({name}) must be a constant to compile")
    return state.graph.constants[name].array


def _contraction(state: _Folding, node: Node) -> None:
    """A convolution; a linear layer becomes one over the whole of what a flatten flattened."""
    weight = _array(state, node, 1)
    name = node.inputs[1]
    sparsity = state.graph.sparsity.get(name)
    stored = sparsity.mask.array if sparsity else np.ones(weight.shape, bool)
    value, _, *biased = node.inputs
    bias = _array(state, node, 2) if biased else np.zeros(len(weight), np.float32)
    source, attributes = state.source(value), node.attributes
    dense = weight.size
    if node.op == "linear":
        source, unflattened = _before_flatten(state, node)
        weight, stored = weight.reshape(unflattened), stored.reshape(unflattened)
        rank = weight.ndim - 2
        attributes = (
            ("stride", (1,) * rank),
            ("padding", ((0, 0),) * rank),
            ("dilation", (1,) * rank),
        )
    else:
        weight, stored = _ungroup(weight, stored, node.attrs["groups"])
        attributes = tuple(a for a in attributes if a[0] != "groups")
    _emit(
        state,
        node,
        Draft(node.name, "conv", (source,), attributes, weight, stored, bias, dense_weights=dense),
    )


def _before_flatten(state: _Folding, node: Node) -> tuple[str, Shape]:
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


def _open_contraction(state: _Folding, value: str) -> Draft | None:
    """The convolution that computes `value`, if nothing else reads it and nothing follows yet."""
    source = state.source(value)
    draft = state.drafts.get(source)
    if draft is None or draft.op != "conv" or not state.read_once(value) or draft.activation:
        return None
    return draft


def _batch_norm(state: _Folding, node: Node) -> None:
    gamma, beta, mean, var = (_array(state, node, i).astype(np.float64) for i in range(1, 5))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(var + node.attrs["eps"])
        shift = beta - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        # Folded, 0 * infinity would make weights of pruned places.
        raise PlanError(f"{node.name}: its scale or shift is not finite; is a variance 0?")
    draft = _open_contraction(state, node.inputs[0])
    if draft is None or draft.residual:
        _emit(
            state,
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


def _rename(state: _Folding, node: Node, draft: Draft) -> None:
    """The draft now computes this node's value; it runs no earlier than its new inputs."""
    del state.drafts[draft.name]
    _emit(state, node, replace(draft, name=node.name))


def _activation(state: _Folding, node: Node) -> None:
    given = (node.attrs[a] for a in ATTRIBUTES[node.op])
    activation = (node.op, tuple(v if isinstance(v, str) else float(v) for v in given))
    source = state.source(node.inputs[0])
    draft = state.drafts.get(source)
    fusible = draft is not None and draft.op in ("conv", "add", "sub", "mul", "affine")
    if draft is not None and fusible and not draft.activation and state.read_once(source):
        _rename(state, node, replace(draft, activation=activation))
        return
    _emit(state, node, Draft(node.name, "activation", (source,), activation=activation))


def _arithmetic(state: _Folding, node: Node) -> None:
    a, b = node.inputs
    if any(name in state.graph.constants for name in (a, b)):
        raise PlanError(f"{node.name}: `{node.op}` with a constant cannot be compiled yet")
    if state.shapes[a] != state.shapes[b]:
        raise PlanError(
            f"{node.name}: `{node.op}` of shapes {state.shapes[a]} and "
            f"{state.shapes[b]} cannot be compiled yet; broadcasting is not supported"
        )
    if node.op == "add" and a != b:
        for value, other in ((b, a), (a, b)):
            draft = _open_contraction(state, value)
            if draft is not None and not draft.residual:
                _rename(state, node, replace(draft, residual=state.source(other)))
                return
    _emit(state, node, Draft(node.name, node.op, (state.source(a), state.source(b))))


def _reshape(state: _Folding, node: Node) -> None:
    value = node.inputs[0]
    before, after = state.shapes[value], state.shapes[node.name]
    if before[0] != after[0] or 2 not in (len(before), len(after)):
        raise PlanError(
            f"{node.name}: reshape from {before} to {after} cannot be compiled yet; "
            "only between (N, C, ...) and (N, M)"
        )
    _emit(state, node, Draft(node.name, "relayout", (state.source(value),)))
