"""A Graph as an ONNX model, so that peers run exactly our weights.

The operators that ONNX 18 has as they are, and few more; batch and all sizes fixed.  Masks are not
written: pruned weights are zeros in the model, which a peer may find or not.
"""

from __future__ import annotations

from bench.errors import BenchError
from bench.onnx_export.rules import RULES
from bench.onnx_export.writer import Writer
from refimpl.graph import Graph, check, index_inputs, shapes

_MOST_BYTES = 2**31 - 2**20  # protobuf holds no more


def export(graph: Graph) -> bytes:
    """The model, serialised; inputs and outputs keep their names and order.

    Inputs that only index embeddings are int64, all else is float32.

    Raises:
        BenchError: an operator that is not written here, by the node's name, or weights too
            large for one ONNX file.
    """
    check(graph)
    size = sum(constant.array.nbytes for constant in graph.constants.values())
    if size > _MOST_BYTES:
        raise BenchError(f"{graph.name}: {size} bytes of weights do not fit one ONNX model")
    writer = Writer(graph, shapes(graph), frozenset(index_inputs(graph)))
    for node in graph.nodes:
        if node.op not in RULES:
            raise BenchError(f"{node.name}: operator {node.op} is not written to ONNX here")
        RULES[node.op](writer, node)
    return writer.model().SerializeToString()
