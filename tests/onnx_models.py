"""ONNX models for tests, written in ONNX's own text."""

import numpy as np
import onnx
from onnx import numpy_helper, parser

I64 = np.int64


def model(text: str, opset: int = 17, **constants: np.ndarray) -> onnx.ModelProto:
    """A model from a graph such as `(float[2,3] x) => (float[2,3] y) { y = Relu(x) }`.

    Args:
        text: the graph, without its name.
        opset: of ONNX's operators.
        constants: by name, values that become initialisers.
    """
    parsed = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> net {text}')
    for name, array in constants.items():
        parsed.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return parsed


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Values around 0, float32."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)
