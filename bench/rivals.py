"""Whom a contest is held against: which peers, on which networks, with which inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.compare import Comparison, Entry, Work
from bench.errors import BenchError
from bench.peers import PEERS, PeerProcesses
from refimpl.graph import Graph, evaluate, index_inputs, macs

HERE = ("host", "host-isolated")
"""Devices that are this machine: only on these can a peer be timed beside us."""

SPARSE_PEER = "mnn-sparse"
"""The peer that skips zeros: it is given pruned networks."""
FEWER_FILTERS = ", fewer filters"
"""What the label of a peer ends with that runs a filter-pruned network."""


@dataclass(frozen=True)
class Rival:
    """A peer in a contest: an engine of `bench.peers.PEERS` on a Graph.

    On the network as it is, its label is the engine's name.
    """

    label: str
    engine: str
    graph: Graph


def rivals(
    dense: Graph, pruned: Mapping[str, Graph], peers: Sequence[str] | None, device: str
) -> list[Rival]:
    """Peers on a network as it is, and the one that skips zeros on the pruned ones.

    Args:
        dense: the network.
        pruned: its pruned forms, by the labels that ours have.
        peers: of `bench.peers.PEERS`; None is all where they can be timed beside the device,
            else none.
        device: where ours runs.

    Raises:
        BenchError: a peer was asked for that there is not, or on a device where none can run.
    """
    if peers and device not in HERE:
        raise BenchError(f"peers run on this machine only, not on {device}; leave them out")
    if unknown := set(peers or ()) - set(PEERS):
        raise BenchError(f"no peer is called {min(unknown)!r}; known are {', '.join(PEERS)}")
    every = PEERS if device in HERE else ()
    chosen = every if peers is None else peers
    sparse = pruned if SPARSE_PEER in chosen else {}
    return [
        *(Rival(name, name, dense) for name in chosen if name != SPARSE_PEER),
        *(Rival(f"{SPARSE_PEER}, {label}", SPARSE_PEER, g) for label, g in sparse.items()),
    ]


def fastest(comparison: Comparison) -> str | None:
    """The fastest peer on the network as it is, by the median ratio to the baseline."""
    speeds = {
        row.label: comparison.speedup(row.label, comparison.baseline) or 0.0
        for row in comparison.rows
        if row.label in PEERS and row.rounds
    }
    return max(speeds, key=speeds.__getitem__, default=None)


class Ring:
    """What all contestants are given: the same random inputs, and each its own right answer."""

    def __init__(self, graph: Graph, processes: PeerProcesses, seed: int) -> None:
        rng, rows = np.random.default_rng([seed, 2]), index_inputs(graph)
        self.inputs = tuple(
            rng.integers(rows[name], size=shape)
            if name in rows
            else rng.standard_normal(shape).astype(np.float32)
            for name, shape in graph.inputs
        )
        self.processes = processes
        self._answers: dict[int, tuple[Graph, tuple[np.ndarray, ...]]] = {}

    def rival(self, rival: Rival) -> Entry:
        """The rival as a contestant, in a process that is kept."""
        dense, kept = (sum(counts) for counts in zip(*macs(rival.graph).values(), strict=True))
        done = Work(dense, kept, kept if rival.engine == SPARSE_PEER else dense)
        start = partial(self.processes.lend, rival.engine, rival.graph)
        return Entry(rival.label, start, self.inputs, self.answer(rival.graph), done)

    def answer(self, graph: Graph) -> tuple[np.ndarray, ...]:
        """What a Graph makes of the inputs, float64; evaluated once, as a large one takes long."""
        if id(graph) not in self._answers:
            # The Graph is held with it, so that its id stays its own.
            self._answers[id(graph)] = graph, tuple(evaluate(graph, *self.inputs, fast=True))
        return self._answers[id(graph)][1]
