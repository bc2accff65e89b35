"""What tests of strips of several tiles share: pruned layers, and their plans cut so."""

from dataclasses import replace

import numpy as np

import jit.decide
from jit.decide.repack import repacked
from refimpl.graph import Constant, Graph, Node, Sparsity, attributes
from refimpl.plan import Plan, Schedule
from refimpl.schemes import BCR
from refimpl.tiles import unpack

SCHEDULE = Schedule(8, 4, (1, 2), 1, 64, False, strip=16)


def masked(rng, shape, keep=0.3, parts=1):
    mask = BCR(6, 5).project(rng.standard_normal(shape), keep, parts=parts)
    return (rng.standard_normal(shape) * mask).astype(np.float32), mask


def linear(batch: int, *, residual: bool = False) -> Graph:
    """A pruned linear layer with bias and tanh, perhaps added to its input."""
    rng = np.random.default_rng(batch)
    weight, mask = masked(rng, (37, 37))
    nodes = [Node(("s",), "linear", ("x", "w", "b"))]
    nodes += [Node(("a",), "add", ("s", "x"))] if residual else []
    nodes.append(Node(("y",), "tanh", (nodes[-1].name,)))
    constants = {"w": weight, "b": rng.standard_normal(37).astype(np.float32)}
    return Graph("linear", (("x", (batch, 37)),), tuple(nodes), ("y",),
                 {n: Constant(a) for n, a in constants.items()},
                 {"w": Sparsity(BCR(6, 5), Constant(mask))})  # fmt: skip


def gru(reset_first: bool) -> Graph:
    """A pruned GRU of 7 units, two sequences of three times."""
    rng = np.random.default_rng(5)
    hidden, mask = masked(rng, (21, 7), 0.5, parts=3)
    constants = {
        "wi": rng.standard_normal((21, 4)), "wh": hidden, "bi": rng.standard_normal(21),
        "bh": rng.standard_normal(21), "h": rng.standard_normal((2, 7)),
    }  # fmt: skip
    node = Node(("y", "last"), "gru", ("x", "wi", "wh", "bi", "bh", "h"),
                attributes(reverse=False, linear_before_reset=not reset_first))  # fmt: skip
    return Graph("gru", (("x", (3, 2, 4)),), (node,), ("y", "last"),
                 {n: Constant(a.astype(np.float32)) for n, a in constants.items()},
                 {"wh": Sparsity(BCR(6, 5), Constant(mask))})  # fmt: skip


TURNED = replace(SCHEDULE, tile=(1, 8), turned=True)
WIDE = replace(SCHEDULE, rows=16, lanes=8)
WIDE_TURNED = replace(TURNED, lanes=16, tile=(1, 16))


def over_blocks(graph: Graph, name: str, schedule: Schedule = SCHEDULE):
    """The plan with every product of a pruned weight in strips of several tiles."""
    return cut_in_blocks(jit.decide.plan(graph, name), schedule)


def cut_in_blocks(made: Plan, schedule: Schedule) -> Plan:
    """The plan with the products of all its matrices so, what is zero left out."""
    for step in made.steps:
        weight = unpack(made.weights[step.weight])[0] if step.weight in made.weights else None
        if weight is not None and weight.ndim == 2:
            made = repacked(made, step.name, schedule, stored=weight != 0)
    return made
