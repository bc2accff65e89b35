"""What each optimisation is worth: the papers' table, none of them to all, and all but each.

GRIM and PatDNN show their compiler's optimisations one added to another.  Here each row is a plan
like any other, made without some of `jit.decide.OPTIMISATIONS`, compiled, checked against the
reference and measured in interleaved rounds with all the others; a layer comes with bias and ReLU,
for fusion to have something to do.  Convolutions are computed directly: Winograd is no
optimisation of the sparse kernels, but their rival.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from bench.comparison import SPREAD, figures
from bench.contest import OURS, Contest, Variant, contest, target_of
from bench.shape import LayerShape, layer_graph, layer_shape
from bench.tables import plain_table
from jit.artifact import build
from jit.decide import OPTIMISATIONS, plan
from jit.decide.candidates import DIRECT
from refimpl.graph import Graph, Node
from refimpl.plan import Plan
from refimpl.schemes import Scheme, Scope, scheme_from_text

NONE, ALL = "none", f"+{[*OPTIMISATIONS][-1]}"
"""The first row, and the last to which something was added."""
PUBLISHED: Mapping[str, str] = {"reorder": "1.6-3.0", "reuse": "1.6-2.8", "tuning": "1.2-1.9"}
"""PatDNN's gains for each layer on a phone's CPU, as they are remembered; GRIM's are not known."""


@dataclass(frozen=True)
class Rung:
    """One row: what it is called, which plan it is, and which two plans tell a gain.

    Attributes:
        label: of the row.
        optimisation: whose gain it tells; "" of the first row.
        without: the optimisations that are left out.
        measured: the label of the contestant that it stands for: another one's where leaving the
            optimisation out changes nothing.
        better, worse: labels of the contestants with and without the optimisation.
    """

    label: str
    optimisation: str
    without: tuple[str, ...]
    measured: str
    better: str
    worse: str


@dataclass(frozen=True)
class Ablation:
    """What was measured.

    Attributes:
        subject: the layer and its scheme, or the network.
        device, target: where it ran, and what it was compiled for.
        added: none, then one optimisation more in each row, to all.
        removed: all but one.
        contest: costs and errors of the plans.
    """

    subject: str
    device: str
    target: str
    added: tuple[Rung, ...]
    removed: tuple[Rung, ...]
    contest: Contest

    @property
    def correct(self) -> bool:
        """Whether all plans computed what they should."""
        return self.contest.correct

    def gain(self, rung: Rung, q: float = 50) -> float | None:
        """How many times cheaper a row's optimisation makes a run, q-th percentile."""
        return self.contest.comparison.speedup(OURS + rung.better, OURS + rung.worse, q)

    def table(self) -> Table:
        """For people."""
        timed = self.contest.comparison.unit == "ns"
        costs = ("ms", "gain", "p10-p90") if timed else ("Minstr", "gain")
        title = f"{self.subject}  on {self.device}, for {self.target}"
        table = plain_table(title, "", *costs, "of none", "PatDNN")
        for rung in self.added:
            table.add_row(*self._cells(rung, timed), PUBLISHED.get(rung.optimisation, ""))
        table.add_section()
        for rung in self.removed:
            table.add_row(*self._cells(rung, timed), "")
        meant = [f"{name}: {meaning}" for name, meaning in OPTIMISATIONS.items()]
        same = [
            f"{r.label}: the same plan as {r.measured}"
            for r in (*self.added, *self.removed)
            if r.measured != r.label
        ]
        table.caption = "\n".join(
            [
                f"gain: of the optimisation; over the row above, or of {ALL}, which is all of them,"
                " over all but it",
                "of none: gain of the whole row over the first",
                "PatDNN: its gains on a phone's CPU, as remembered, not verified",
                *meant,
                *same,
                *self.contest.notes,
            ]
        )
        return table

    def _cells(self, rung: Rung, timed: bool) -> list[str]:
        row = self.contest.comparison.row(OURS + rung.measured)
        if not row.rounds:
            return [rung.label, "NOT MEASURED", *[""] * (3 if timed else 2)]
        gain, spread = "", ""
        if rung.optimisation:
            low, middle, high = (self.gain(rung, q) or 0.0 for q in SPREAD)
            gain, spread = f"{middle:.2f}", f"{low:.2f}-{high:.2f}"
        of_none = self.contest.comparison.speedup(OURS + rung.measured, OURS + NONE) or 0.0
        cells = [rung.label, figures(row.cost(50) / 1e6), gain, *([spread] if timed else [])]
        return [*cells, f"{of_none:.2f}"]

    def json(self) -> dict[str, Any]:
        """For machines."""
        rows = {"added": self.added, "removed": self.removed}
        return {
            "subject": self.subject,
            "device": self.device,
            "target": self.target,
            **{kind: [self._row_json(rung) for rung in rungs] for kind, rungs in rows.items()},
            **self.contest.json(),
        }

    def _row_json(self, rung: Rung) -> dict[str, Any]:
        gain = {f"p{q}": self.gain(rung, q) for q in SPREAD} if rung.optimisation else None
        return {
            "label": rung.label,
            "optimisation": rung.optimisation or None,
            "without": list(rung.without),
            "contestant": OURS + rung.measured,
            "gain": gain,
            "published": PUBLISHED.get(rung.optimisation),
        }


def ablate_layer(
    layer: str | LayerShape,
    scheme: str | Scheme,
    keep: float,
    *,
    device: str = "host",
    target: str | None = None,
    rounds: int = 15,
    scope: Scope | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Ablation:
    """Ablate a layer with random weights, a random mask, a bias and a ReLU.

    Args:
        layer, scheme, keep, device, target, rounds, scope, seed, tell: as
            `bench.layer.bench_layer` takes them.

    Raises:
        BenchError, SchemeError, TargetError, PlanError, DeviceError: as `bench_layer`.
    """
    shape = layer_shape(layer) if isinstance(layer, str) else layer
    chosen = scheme_from_text(scheme) if isinstance(scheme, str) else scheme
    graph = _activated(layer_graph(shape, chosen, keep, scope=scope, seed=seed))
    subject = f"{shape}  {chosen} keeping {keep:g}, ReLU"
    options = {"device": device, "target": target, "rounds": rounds, "seed": seed, "tell": tell}
    return ablate(graph, subject, **options)


def ablate(
    graph: Graph,
    subject: str = "",
    *,
    device: str = "host",
    target: str | None = None,
    rounds: int = 15,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Ablation:
    """Measure a network with none of the optimisations, then more, then all, and all but each.

    Args:
        graph: the network, with its masks.
        subject: what it is called; "" is its name.
        device: as `jit.devices.open_device` takes it; an emulator counts guest instructions.
        target: to compile for; None is what the device's name says.
        rounds: that count, after a warm-up round.
        seed: of the random inputs.
        tell: told what is being done, in a few words.

    Raises:
        BenchError: the device's name does not say its target, or it cannot count.
        PlanError, DeviceError: the network cannot be compiled; the device fails.
    """
    machine = target or target_of(device)
    tell(f"planning {subject or graph.name}")
    rungs, variants = _plans(graph, machine)
    result = contest(variants, device=device, rounds=rounds, seed=seed, tell=tell)
    added = tuple(rung for rung in rungs if rung.label not in _removed())
    removed = tuple(rung for rung in rungs if rung.label in _removed())
    return Ablation(subject or graph.name, device, machine, added, removed, result)


def _plans(graph: Graph, machine: str) -> tuple[list[Rung], list[Variant]]:
    """Every row, and every different plan among them."""
    plans: dict[str, Plan] = {}
    stands_for: dict[str, str] = {}
    ladder = _ladder()
    for label, _, without, _ in ladder:
        made = plan(graph, machine, algorithms=(DIRECT,), without=without)
        same = next((known for known, other in plans.items() if _alike(made, other)), label)
        stands_for[label] = same
        plans.setdefault(same, made)
    rungs = []
    for label, optimisation, without, beside in ladder:
        mine, other = stands_for[label], stands_for[beside]
        better, worse = (other, mine) if label in _removed() else (mine, other)
        rungs.append(Rung(label, optimisation, without, mine, better, worse))
    return rungs, [Variant(label, graph, made, build(made)) for label, made in plans.items()]


def _ladder() -> list[tuple[str, str, tuple[str, ...], str]]:
    """(label, optimisation, what is left out, whom to compare with) of every row."""
    names = tuple(OPTIMISATIONS)
    rows: list[tuple[str, str, tuple[str, ...], str]] = [(NONE, "", names, NONE)]
    for i, name in enumerate(names):
        rows.append((f"+{name}", name, names[i + 1 :], rows[-1][0]))
    return [*rows, *((label, name, (name,), ALL) for label, name in _removed().items())]


def _removed() -> dict[str, str]:
    """The rows of all optimisations but one, and that one."""
    return {f"all but {name}": name for name in OPTIMISATIONS}


def _alike(a: Plan, b: Plan) -> bool:
    """Whether two plans run the same kernels on the same weights, whyever they do."""
    bare = [
        replace(p, steps=tuple(replace(s, choice=a.steps[0].choice) for s in p.steps))
        for p in (a, b)
    ]
    return bare[0] == bare[1]


def _activated(graph: Graph) -> Graph:
    """A layer's Graph with a ReLU behind it."""
    node = graph.nodes[-1]
    last = Node(graph.outputs, "relu", ("sum",))
    return replace(graph, nodes=(*graph.nodes[:-1], replace(node, outputs=("sum",)), last))
