"""What every scheme costs a layer: weights that its kernels multiply, of those that are kept.

    python -m bench.schemes conv2d:256x256x3x3@28x28 --keep 0.28 --target x86-64-avx512

Nothing is run: masks are random, cycles are the planner's prediction.  Gains are over the dense
layer's direct kernel, and over its best.  `gossamer bench --layer` measures one of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import BenchError
from bench.shape import LayerShape, layer_graph, layer_shape
from jit.decide import plan
from jit.decide.candidates import ALGORITHMS, DIRECT
from jit.target import TargetError
from refimpl.plan import Plan, PlanError, Step, stored_macs
from refimpl.schemes import SchemeError, scheme_from_text
from refimpl.text_table import columns

SCHEMES = (
    "kgs:32x4",
    "kgs:16x4",
    "kgs:8x4",
    "kgs:4x4",
    "vanilla:8x8",
    "bcr:16x64",
    "filter",
    "channel",
    "pattern:4x8",
    "nm:2x8",
    "unstructured",
)


@dataclass(frozen=True)
class Cost:
    """What a scheme costs a layer.

    Attributes:
        scheme: in the grammar of `refimpl.schemes`.
        kept: share of the weights that the mask keeps.
        stored: multiply-adds performed for every one with a kept weight; 1 is the least.
        gain: predicted cycles of the dense layer, computed directly as this one is, for one of
            these.
        gain_of_best: the same over the dense layer's best, which may be Winograd.
        winner, reason: of the planner's choice.
    """

    scheme: str
    kept: float
    stored: float
    gain: float
    gain_of_best: float
    winner: str
    reason: str


def scheme_costs(
    layer: LayerShape, keep: float, target: str, schemes: Sequence[str] = SCHEMES
) -> list[Cost]:
    """The cost of every scheme for a layer; those that do not fit its weight are left out.

    Args:
        layer: with random weights.
        keep: the share of weights that stays, in (0, 1].
        target: as `jit.target.target` knows it.
        schemes: in the grammar of `refimpl.schemes`.

    Raises:
        PlanError, TargetError: the layer cannot be compiled; the target is unknown.
    """
    _, dense = _planned(layer, "dense", 1.0, target)
    _, best = _planned(layer, "dense", 1.0, target, ALGORITHMS)
    found = []
    for scheme in schemes:
        try:
            made, step = _planned(layer, scheme, keep, target)
        except SchemeError:
            continue
        found.append(
            Cost(
                scheme,
                step.kept_macs / step.dense_macs,
                stored_macs(made, step) / max(step.kept_macs, 1),
                dense.choice.cycles / max(step.choice.cycles, 1),
                best.choice.cycles / max(step.choice.cycles, 1),
                step.choice.winner,
                step.choice.reason,
            )
        )
    return found


def _planned(
    layer: LayerShape,
    scheme: str,
    keep: float,
    target: str,
    algorithms: Sequence[str] = (DIRECT,),
) -> tuple[Plan, Step]:
    """The plan of a layer, and the step that multiplies."""
    graph = layer_graph(layer, scheme_from_text(scheme), keep)
    made = plan(graph, target, algorithms=algorithms)
    return made, next(s for s in made.steps if s.schedule is not None)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.schemes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("layer")
    parser.add_argument("--keep", type=float, default=0.28, help="share of weights that stays")
    parser.add_argument("--target", default="host")
    given = parser.parse_args(arguments)
    try:
        found = scheme_costs(layer_shape(given.layer), given.keep, given.target)
    except (BenchError, PlanError, TargetError) as error:
        parser.exit(2, f"{error}\n")
    rows = [("scheme", "kept", "stored/kept", "gain", "of best", "how", "why")]
    rows += [
        (
            c.scheme,
            f"{c.kept:.0%}",
            f"{c.stored:.2f}",
            f"{c.gain:.2f}",
            f"{c.gain_of_best:.2f}",
            c.winner,
            c.reason,
        )
        for c in found
    ]
    print("\n".join(columns(rows, right={1, 2, 3, 4})))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
