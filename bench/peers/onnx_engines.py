"""ONNX Runtime and OpenVINO, fed the same ONNX model; runs inside a worker.

Both include in every run what a caller in Python pays: plain arrays in, plain arrays out, and
whatever reordering they do in between.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import openvino

from bench.onnx_export import export
from refimpl.graph import Graph


class OnnxRuntime:
    """ONNX Runtime on its CPU provider, all graph optimisations on."""

    version = onnxruntime.__version__

    def __init__(self, graph: Graph, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(
            export(graph), options, providers=["CPUExecutionProvider"]
        )
        self.names = [item.name for item in self.session.get_inputs()]
        self.fed: dict[str, np.ndarray] = {}
        self.results: list[np.ndarray] = []

    def feed(self, inputs: list[np.ndarray]) -> None:
        """Take the inputs."""
        self.fed = dict(zip(self.names, inputs, strict=True))

    def run(self) -> None:
        """One run; ONNX Runtime makes new output arrays."""
        self.results = self.session.run(None, self.fed)  # type: ignore[assignment]

    def outputs(self) -> list[np.ndarray]:
        """Of the last run."""
        return self.results


class OpenVino:
    """OpenVINO's CPU plugin in float32, one stream."""

    version = openvino.__version__.split("-")[0]

    def __init__(self, graph: Graph, threads: int) -> None:
        core = openvino.Core()
        settings = {
            # Without this hint it computes in bfloat16 where the CPU can.
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": str(threads),
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
        }
        model = core.read_model(model=export(graph))
        self.compiled = core.compile_model(model, "CPU", settings)
        self.request = self.compiled.create_infer_request()
        self.held: list[np.ndarray] = []

    def feed(self, inputs: list[np.ndarray]) -> None:
        """Take the inputs where they lie."""
        self.held = inputs  # the tensors share their memory
        for i, array in enumerate(inputs):
            self.request.set_input_tensor(i, openvino.Tensor(array, shared_memory=True))

    def run(self) -> None:
        """One run."""
        self.request.infer()

    def outputs(self) -> list[np.ndarray]:
        """Of the last run."""
        count = len(self.compiled.outputs)
        return [self.request.get_output_tensor(i).data.copy() for i in range(count)]
