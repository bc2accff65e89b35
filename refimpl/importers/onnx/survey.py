"""What an ONNX model holds, whether or not it can be captured."""

from __future__ import annotations

import math
from pathlib import Path

import onnx

from refimpl.graph.check import LARGEST_TENSOR
from refimpl.importers import CaptureError
from refimpl.importers.onnx.capture import KNOWN
from refimpl.importers.onnx.checking import initialisers, live_nodes, opset_of, unsupported
from refimpl.importers.onnx.folding import TYPES
from refimpl.importers.onnx.functions import inlined
from refimpl.importers.onnx.inputs import fixed_sizes
from refimpl.importers.onnx.reading import Source, read
from refimpl.importers.sizes import GivenShapes, by_name
from refimpl.importers.survey import Survey, counts


def survey(model: str | Path | onnx.ModelProto, *, shapes: GivenShapes | None = None) -> Survey:
    """What a model holds; sizes of inputs that neither it nor `shapes` gives stay open.

    Raises:
        CaptureError: the file cannot be read, its nodes are named or ordered unsoundly, or a
            constant is of a size that no tensor has.
    """
    source = read(model)
    try:
        return _survey(source, shapes)
    except UnicodeDecodeError as error:
        raise CaptureError(f"{source.name} is damaged: it holds text that is not UTF-8") from error


def _survey(source: Source, shapes: GivenShapes | None) -> Survey:
    whole = inlined(source.model)
    graph, opset = whole.graph, opset_of(whole)
    nodes = live_nodes(graph)
    constants = set(initialisers(graph))
    tensors = [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]
    sizes = [(_elements(tensor), tensor) for tensor in tensors]
    inputs = {v.name: fixed_sizes(v) or () for v in graph.input if v.name not in constants}
    return Survey(
        source.name,
        {**inputs, **by_name(shapes, list(inputs), "the model")},
        counts(node.op_type for node in nodes),
        sum(size for size, _ in sizes),
        sum(size * _item(tensor) for size, tensor in sizes),
        tuple(unsupported(nodes, opset, KNOWN)),
    )


def _elements(tensor: onnx.TensorProto) -> int:
    size = math.prod(max(size, 0) for size in tensor.dims)
    if size > LARGEST_TENSOR:
        raise CaptureError(f"constant {tensor.name!r} has more than 2^40 elements")
    return size


def _item(tensor: onnx.TensorProto) -> int:
    return TYPES[tensor.data_type].itemsize if tensor.data_type in TYPES else 0
