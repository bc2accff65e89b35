"""MNN and ncnn, made from the same ONNX model by their own converters; runs inside a worker.

Both are told to compute in float32: by default they may use less.
"""

from __future__ import annotations

import subprocess
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.onnx_export import export
from refimpl.graph import Graph, index_inputs, shapes

_WINOGRAD_MEMORY = 3  # MNN's hint, by number: Python has no name for it


class Mnn:
    """MNN's CPU backend at its highest precision.

    Its large Winograd tiles lose four digits and more; with `accurate` it is held to the smaller
    ones, as its hint of little memory for Winograd does.  With `sparse` its converter looks for
    weights whose zeros it can skip.

    Raises:
        ModuleNotFoundError: MNN is not installed.
        ValueError: its converter or its runtime does not take the network.
    """

    def __init__(
        self, graph: Graph, threads: int, *, accurate: bool = False, sparse: bool = False
    ) -> None:
        mnn: Any = import_module("MNN")
        self.expr, self.version = mnn.expr, str(mnn.version())
        settings = {"backend": "CPU", "precision": "high", "numThread": threads}
        runtime = mnn.nn.create_runtime_manager((settings,))
        if accurate:
            runtime.set_hint(_WINOGRAD_MEMORY, 1)
        self.whole = frozenset(index_inputs(graph))
        self.names = [name for name, _ in graph.inputs]
        with tempfile.TemporaryDirectory() as folder:
            path = _converted_to_mnn(graph, Path(folder), sparse)
            self.module = mnn.nn.load_module_from_file(
                str(path), self.names, list(graph.outputs), runtime_manager=runtime
            )
        self.fed: list = []
        self.results: list = []

    def feed(self, inputs: list[np.ndarray]) -> None:
        """Take the inputs."""
        e = self.expr
        self.fed = [
            e.const(x.astype(np.int32), list(x.shape), e.NCHW, e.int)
            if name in self.whole
            else e.const(x, list(x.shape), e.NCHW, e.float)
            for name, x in zip(self.names, inputs, strict=True)
        ]

    def run(self) -> None:
        """One run."""
        self.results = self.module.forward(self.fed)

    def outputs(self) -> list[np.ndarray]:
        """Of the last run."""
        return [np.array(y.read()) for y in self.results]


def _converted_to_mnn(graph: Graph, folder: Path, sparse: bool) -> Path:
    # The converter's own module: MNN.tools.mnnconvert, around it, installs packages when imported.
    import _tools

    source, path = folder / "net.onnx", folder / "net.mnn"
    source.write_bytes(export(graph))
    argv = ["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(path)]
    argv += ["--bizCode", "none", *(["--detectSparseSpeedUp"] if sparse else [])]
    if not _tools.mnnconvert(argv) or not path.exists():
        raise ValueError("its converter does not take the network")
    return path


class Ncnn:
    """ncnn on the CPU, the network made by pnnx.

    Raises:
        ModuleNotFoundError: ncnn or pnnx is not installed.
        ValueError: the batch is above 1, which ncnn has no axis for, or pnnx or ncnn does not
            take the network.
    """

    def __init__(self, graph: Graph, threads: int) -> None:
        self.ncnn: Any = import_module("ncnn")
        self.version = str(self.ncnn.__version__)
        self.batch = [_batch_axis(graph, name, shape) for name, shape in graph.inputs]
        known = shapes(graph)
        self.shapes = [known[name] for name in graph.outputs]
        self.net = self.ncnn.Net()
        options = self.net.opt
        options.num_threads, options.openmp_blocktime = threads, 0
        options.use_vulkan_compute = False
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_packed = options.use_bf16_storage = False
        with tempfile.TemporaryDirectory() as folder:
            _convert_to_ncnn(graph, Path(folder))
            path = f"{folder}/net.ncnn"
            if self.net.load_param(f"{path}.param") or self.net.load_model(f"{path}.bin"):
                raise ValueError("it does not load what its converter made")
        self.fed: list = []
        self.results: list = []

    def feed(self, inputs: list[np.ndarray]) -> None:
        """Take the inputs, without their axis of one sample."""
        self.held = [
            np.ascontiguousarray(
                np.squeeze(x if x.dtype == np.float32 else x.astype(np.int32), axis)
            )
            for x, axis in zip(inputs, self.batch, strict=True)
        ]
        self.fed = [self.ncnn.Mat(x) for x in self.held]  # which share their memory

    def run(self) -> None:
        """One run; an extractor computes once, and is cheap to make."""
        extractor = self.net.create_extractor()
        for name, x in zip(self.net.input_names(), self.fed, strict=True):
            extractor.input(name, x)
        found = [extractor.extract(name) for name in self.net.output_names()]
        if any(failed for failed, _ in found):
            raise ValueError("it failed to run the network")
        self.results = [y for _, y in found]

    def outputs(self) -> list[np.ndarray]:
        """Of the last run; an output of another size is left as it is, to be seen as wrong."""
        arrays = [np.array(y) for y in self.results]
        return [
            y.reshape(shape) if y.size == np.prod(shape) else y
            for y, shape in zip(arrays, self.shapes, strict=True)
        ]


def _batch_axis(graph: Graph, name: str, shape: tuple[int, ...]) -> int:
    recurrent = any(n.op in ("rnn", "lstm", "gru") and name == n.inputs[0] for n in graph.nodes)
    axis = 1 if recurrent else 0
    if shape[axis] != 1:
        raise ValueError(f"it runs one sample at a time, and {name} has {shape[axis]}")
    return axis


def _convert_to_ncnn(graph: Graph, folder: Path) -> None:
    """Write net.ncnn.param and net.ncnn.bin."""
    package = find_spec("pnnx")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'pnnx'", name="pnnx")
    (folder / "net.onnx").write_bytes(export(graph))
    given = ",".join(f"[{','.join(map(str, shape))}]" for _, shape in graph.inputs)
    # pnnx is a program; its package in Python imports torch around it.
    program = Path(package.origin).parent / "pnnx"
    argv = [str(program), "net.onnx", f"inputshape={given}", "fp16=0"]
    done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True)
    missing = not (folder / "net.ncnn.param").exists()
    if done.returncode or missing:
        raise ValueError("its converter, pnnx, does not take the network")
