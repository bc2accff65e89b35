"""What all views of an Explanation say, in plain text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from gossamer.explain.assembly import Line
from gossamer.explain.explanation import Explanation
from gossamer.explain.meaning import Verdict

Verdicts = Mapping[str, Sequence[Verdict]]
"""By target: what running every stage of the shrunk layer showed."""


def printable(name: str) -> str:
    """A name of a model, safe for a terminal: control characters are replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)


def decision_lines(e: Explanation) -> list[tuple[str, str]]:
    """(what, value): the Plan's decision for the layer."""
    s, weights = e.schedule, e.plan.weights[e.step.weight]
    x, y = e.plan.places[e.step.inputs[0]], e.plan.places[e.step.name]
    size, positions = _by(weights.shape), _by(y.shape[2:]) or "one position"
    lines = [
        ("layer", f"{e.step.label}: weight {size}, output {_by(y.shape)} ({positions})"),
        (
            "schedule",
            f"strips of {s.rows} filters x tiles of {_by(s.tile)} positions, vectors of "
            f"{s.lanes}, runs of {s.run}, blocks of {s.channel_block} channels",
        ),
        ("because", e.choice.reason),
        ("predicted", _candidates(e)),
        ("layout", f"input {x.layout}, output {y.layout}"),
        ("MACs", _macs(e)),
        (
            "bytes",
            f"{4 * weights.stored:,} of weights, {weights.index_bytes:,} of row and column lists",
        ),
        ("kernels", ", ".join(f"{p.kernel.name} {p.share:.0%}" for p in e.parts)),
    ]
    if len(e.step.covers) > 1:
        lines.insert(1, ("covers", ", ".join(e.step.covers)))
    # A saved plan may say anything.
    return [(what, printable(value)) for what, value in lines]


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _candidates(e: Explanation) -> str:
    best = e.choice.cycles
    if not best:
        return "nothing"
    rest = [f"{n} +{c / best - 1:.1%}" for n, c in e.choice.candidates if n != e.choice.winner]
    text = f"{e.choice.winner} {best:,.0f} cycles"
    return text + (f"; then {', '.join(rest[:4])}" if rest else "")


def _macs(e: Explanation) -> str:
    dense, kept = e.step.dense_macs, e.step.kept_macs
    return (
        f"{kept:,} kept of {dense:,} ({kept / dense:.1%}); {e.stored_macs:,} are done, "
        "explicit zeros and padding rows included"
    )


def same(found: Sequence[Explanation], stage: str) -> list[list[Explanation]]:
    """The explanations grouped by equal Programs at a stage; those without it are left out."""
    groups: list[list[Explanation]] = []
    for e in found:
        if all(entry.name != stage for entry in e.trace.entries):
            continue
        program = e.stage(stage).program
        group = next((g for g in groups if g[0].stage(stage).program == program), None)
        if group is None:
            groups.append([e])
        else:
            group.append(e)
    return groups


def stage_order(found: Sequence[Explanation]) -> list[str]:
    """The names of all stages, in order."""
    return list(dict.fromkeys(entry.name for e in found for entry in e.trace.entries))


def instruction(line: Line) -> str:
    """A label, or an indented instruction with its operands aligned."""
    name, _, operands = line.text.partition("\t")
    return line.text if line.is_label else f"    {name:<14} {operands}".rstrip()


def folded(lines: Sequence[Line]) -> Iterator[str]:
    """Assembly with runs of one instruction shown by their first."""
    for name, run in groupby(lines, key=lambda line: line.text.partition("\t")[0]):
        first, *more = run
        rest = f"   and {len(more)} more {name}" if more else ""
        yield instruction(first) + rest


def counts_rows(found: Sequence[Explanation]) -> list[tuple[str, list[str]]]:
    """(what, one number per target): static counts of the inner loop per kept column."""
    rows = []
    for what, field in (
        ("instructions", "instructions"),
        ("multiply-adds", "multiply_adds"),
        ("loads", "loads"),
        ("stores", "stores"),
        ("spills", "stack"),
    ):
        numbers = [getattr(e.loop_counts, field) / e.columns_per_iteration for e in found]
        rows.append((what, [f"{number:g}" for number in numbers]))
    rows.append(("columns per iteration", [str(e.columns_per_iteration) for e in found]))
    return rows
