"""Recurrent layers in ONNX's order of gates."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.onnx_export.writer import Writer
from refimpl.graph import Node

# Where ONNX's gates stand among the Graph's: gru z, r, h among r, z, n; lstm i, o, f, c among
# i, f, g, o.
_GATES = {"rnn": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}


def recurrence(to: Writer, node: Node) -> None:
    """Weights in ONNX's order, with the axis for directions that ONNX has everywhere."""
    a, (x, *weights), states = node.attrs, node.inputs[:5], node.inputs[5:]
    w, r, *biases = (_reordered(node.op, to.constant(node, name)) for name in weights)
    held = {"W": w, "R": r, "B": np.concatenate(biases)}
    operands = [to.number(node, role, array[None]) for role, array in held.items()]
    axis = to.number(node, "direction", [0], np.int64)
    for state in states:
        to.add("Unsqueeze", [state, axis], f"{node.name}/{state}")
    given: dict[str, Any] = {"hidden_size": r.shape[1]}
    given["direction"] = "reverse" if a["reverse"] else "forward"
    if node.op == "gru":
        given["linear_before_reset"] = int(a["linear_before_reset"])
    if node.op == "rnn":
        given["activations"] = [a["activation"].capitalize()]
    results = [f"{name}/stacked" for name in node.outputs]
    inputs = [x, *operands, "", *(f"{node.name}/{state}" for state in states)]
    to.add(node.op.upper(), inputs, results, **given)
    for position, (stacked, name) in enumerate(zip(results, node.outputs, strict=True)):
        # Y has the directions behind the time, the final states have them first.
        place = to.number(node, f"axis{position}", [1 if position == 0 else 0], np.int64)
        to.add("Squeeze", [stacked, place], name)


def _reordered(op: str, rows: np.ndarray) -> np.ndarray:
    gates = np.split(rows, len(_GATES[op]))
    return np.concatenate([gates[gate] for gate in _GATES[op]])
