"""The verb `inspect`."""

from __future__ import annotations

from math import prod
from typing import Any

from gossamer.cli.models import graph_or_plan
from gossamer.cli.output import show_json, show_line, show_table
from gossamer.cli.plan import report, show_plan
from refimpl import graph as graphs
from refimpl.graph import Graph
from refimpl.plan import Plan
from refimpl.plan.report import short

_HEADINGS = ("node", "operator", "shape", "weights", "MACs kept", "of dense", "scheme")


def inspect(model: str, *, json: bool = False) -> int:
    """Show what a model computes, layer by layer, or the plan in a file.

    Example: `gossamer inspect demo:pruned`

    Parameters
    ----------
    model
        A plan file, or a model as for `gossamer plan`.
    json
        Print JSON.
    """
    found = graph_or_plan(model)
    if isinstance(found, Plan):
        if json:
            show_json(report(found))
        else:
            show_plan(found)
        return 0
    rows = _rows(found)
    if json:
        show_json({"name": found.name, "inputs": dict(found.inputs), "nodes": rows})
        return 0
    show_line(
        f"{found.name}: {len(found.nodes)} nodes, {short(sum(r['weights'] for r in rows))} "
        f"weights, {short(sum(r['kept_macs'] for r in rows))} MACs kept"
    )
    show_table(_HEADINGS, (_cells(row) for row in rows), left=3)
    return 0


def _rows(graph: Graph) -> list[dict[str, Any]]:
    shapes, macs = graphs.shapes(graph), graphs.macs(graph)
    rows = []
    for node in graph.nodes:
        weights = [name for name in node.inputs if name in graph.constants]
        scheme = next((str(graph.sparsity[n].scheme) for n in weights if n in graph.sparsity), "")
        dense, kept = macs.get(node.name, (0, 0))
        rows.append(
            {
                "node": node.name,
                "op": node.op,
                "shape": shapes[node.name],
                "scheme": scheme,
                "weights": sum(prod(shapes[name]) for name in weights),
                "dense_macs": dense,
                "kept_macs": kept,
            }
        )
    return rows


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    share = f"{row['kept_macs'] / row['dense_macs']:.0%}" if row["dense_macs"] else ""
    shape = "x".join(map(str, row["shape"]))
    return (
        row["node"],
        row["op"],
        shape,
        short(row["weights"]),
        short(row["kept_macs"]),
        share,
        row["scheme"],
    )
