"""The verb `inspect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from gossamer.cli.models import Shapes, captured, is_plan, plan_of, recognised, source_of, surveyed
from gossamer.cli.output import counted, shortened, show_json, show_line, show_table, working
from gossamer.cli.plan import report, show_plan
from gossamer.compilable import obstacles
from refimpl import graph as graphs
from refimpl.graph import Graph, Node
from refimpl.importers import CaptureError
from refimpl.importers.survey import Survey
from refimpl.ops import OPERATORS
from refimpl.plan.report import short
from refimpl.recognise import Recognition, annotate

_HEADINGS = ("node", "operator", "shape", "weights", "MACs kept", "of dense", "scheme")


def inspect(model: str, *, target: str = "host", shape: Shapes = None, json: bool = False) -> int:
    """Show what a model is: its totals, every node, and what of it cannot be compiled; or a plan.

    A model that cannot be captured is described as far as that can be told, with everything in it
    that has no counterpart here; the exit code is then 1.

    Example: `gossamer inspect model.onnx --shape x=1x3x224x224`

    Parameters
    ----------
    model
        A plan file, or a model as for `gossamer plan`.
    target
        What the model should be compiled for: what cannot be is named.
    json
        Print JSON.
    """
    if is_plan(model):
        return _show_plan(model, shape, json)
    source = source_of(model, shape)
    try:
        graph = captured(source)
    except CaptureError as error:
        try:
            found = surveyed(source)
        except CaptureError:  # where not even that can be told, the first error says more
            raise error from None
        return _show_survey(found, error, json)
    schemes = recognised(graph)
    graph = annotate(graph, schemes)
    with working(f"planning {model}"):
        refused = obstacles(graph, target)
    data = {**_totals(graph), "nodes": _rows(graph, schemes)}
    data |= {"target": target, "not_compiled": refused}
    if json:
        show_json(data)
    else:
        _show(data)
    return 0


def _show_plan(model: str, shape: list[str] | None, json: bool) -> int:
    plan = plan_of(model, None, shape)
    if json:
        show_json(report(plan))
    else:
        show_plan(plan)
    return 0


# -- a model that was captured ---------------------------------------------------------------------


def _totals(graph: Graph) -> dict[str, Any]:
    shapes, macs = graphs.shapes(graph), graphs.macs(graph).values()
    return {
        "name": graph.name,
        "captured": True,
        "inputs": dict(graph.inputs),
        "indices": graphs.index_inputs(graph),
        "outputs": {name: shapes[name] for name in graph.outputs},
        "operators": dict(Counter(node.op for node in graph.nodes).most_common()),
        "parameters": sum(constant.array.size for constant in graph.constants.values()),
        "bytes": sum(constant.array.nbytes for constant in graph.constants.values()),
        "dense_macs": sum(dense for dense, _ in macs),
        "kept_macs": sum(kept for _, kept in macs),
    }


def _rows(graph: Graph, schemes: Mapping[str, Recognition]) -> list[dict[str, Any]]:
    shapes, macs = graphs.shapes(graph), graphs.macs(graph)
    rows = []
    for node in graph.nodes:
        dense, kept = macs.get(node.name, (0, 0))
        constants = [name for name in node.inputs if name in graph.constants]
        rows.append(
            {
                "node": node.name,
                "op": node.op,
                "shape": shapes[node.name],
                "weights": sum(prod(shapes[name]) for name in constants),
                "dense_macs": dense,
                "kept_macs": kept,
                "schemes": list(_schemes(graph, node, schemes)),
            }
        )
    return rows


def _schemes(graph: Graph, node: Node, schemes: Mapping[str, Recognition]) -> list[dict[str, Any]]:
    """What is known of each of the node's weights that is not dense."""
    found = []
    for name in (node.inputs[position] for position in OPERATORS[node.op].weights):
        if name in schemes:
            r = schemes[name]
            taken = {"origin": "recognised" if r.worthwhile else "left dense"}
            found.append({"weight": name, "scheme": str(r.scheme), "kept": r.kept, **taken})
            found[-1]["exploited"] = r.exploited
        elif name in graph.sparsity:
            kept = float(graph.sparsity[name].mask.array.mean())
            scheme = str(graph.sparsity[name].scheme)
            found.append({"weight": name, "scheme": scheme, "kept": kept, "origin": "given"})
    return found


def _show(data: dict[str, Any]) -> None:
    rows = data["nodes"]
    show_line(
        f"{data['name']}: {counted(len(rows), 'node')}, {short(data['parameters']) or '0'} "
        f"parameters ({short(data['bytes']) or '0 '}B), {_macs(data)}"
    )
    _show_operators(data["operators"])
    for name, shape in data["inputs"].items():
        most = data["indices"].get(name)
        what = f", whole numbers below {most}" if most else ""
        show_line(f"input {name}: {_by(shape)}{what}")
    for name, shape in data["outputs"].items():
        show_line(f"output {name}: {_by(shape)}")
    show_table(_HEADINGS, (_cells(row) for row in rows), left=3)
    if data["not_compiled"]:
        show_line(f"cannot be compiled for {data['target']}:")
    for text in data["not_compiled"]:
        show_line(f"  {text}")


def _macs(data: dict[str, Any]) -> str:
    dense, kept = data["dense_macs"], data["kept_macs"]
    if kept == dense:
        return f"{short(dense) or '0'} MACs"
    return f"{short(kept) or '0'} MACs kept of {short(dense)} ({kept / dense:.0%})"


def _show_operators(operators: Mapping[str, int]) -> None:
    show_line("operators: " + ", ".join(f"{count} {name}" for name, count in operators.items()))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    share = f"{row['kept_macs'] / row['dense_macs']:.0%}" if row["dense_macs"] else ""
    return (
        shortened(row["node"]),
        row["op"],
        _by(row["shape"]),
        short(row["weights"]),
        short(row["kept_macs"]),
        share,
        "; ".join(_scheme(found) for found in row["schemes"]),
    )


def _scheme(found: dict[str, Any]) -> str:
    if found["origin"] == "given":
        return f"{found['scheme']}, given"
    if found["origin"] == "recognised":
        return f"{found['scheme']}, recognised: {found['exploited']:.0%} of the zeros"
    return "few zeros, left dense"


def _by(shape: Sequence[int | str]) -> str:
    return "x".join(str(size) or "?" for size in shape) or "a scalar"


# -- a model that was not --------------------------------------------------------------------------


def _show_survey(found: Survey, error: CaptureError, json: bool) -> int:
    """What a model holds that cannot be captured, and why it cannot; always 1."""
    reasons = list(found.unsupported) or [str(error)]
    if json:
        show_json({**vars(found), "captured": False, "unsupported": reasons})
        return 1
    show_line(
        f"{found.name}: {counted(sum(found.operators.values()), 'node')}, "
        f"{short(found.parameters) or '0'} parameters ({short(found.nbytes) or '0 '}B)"
    )
    _show_operators(found.operators)
    for name, sizes in found.inputs.items():
        show_line(f"input {name}: {_by(sizes)}")
    for reason in reasons:
        show_line(reason)
    return 1
