"""Small models as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def onnx_file(
    path: Path,
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    *,
    whole: Sequence[str] = (),
    **constants: np.ndarray,
) -> Path:
    """Write a model whose output is `y`; the inputs `whole` are int64, the others float32."""
    kinds = {name: TensorProto.INT64 if name in whole else TensorProto.FLOAT for name in inputs}
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, kinds[name], sizes) for name, sizes in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    return path
