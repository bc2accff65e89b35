"""The process of a peer: `python -m bench.peers.worker SOCKET`, started by `bench.peers.client`.

It answers one message at a time and sleeps in between.  What the engine prints goes to the file
that standard output is, not into the answers.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np

from bench.peers import wire
from refimpl.graph import Constant, Graph, parse


class Engine(Protocol):
    """What a peer can do; made from a Graph and a number of threads."""

    version: str

    def feed(self, inputs: list[np.ndarray]) -> None:
        """Take inputs in the Graph's order, float32 or, to index embeddings, int64.

        They are used until the next are fed.
        """

    def run(self) -> None:
        """Run the network on what was fed: the part that is timed."""

    def outputs(self) -> list[np.ndarray]:
        """What the last run computed, float32, in the Graph's order."""
        ...


def _torch(graph: Graph, threads: int, **how: bool) -> Engine:
    from bench.peers.torch_engine import TorchEngine

    return TorchEngine(graph, threads, **how)


def _onnxruntime(graph: Graph, threads: int) -> Engine:
    from bench.peers.onnx_engines import OnnxRuntime

    return OnnxRuntime(graph, threads)


def _openvino(graph: Graph, threads: int) -> Engine:
    from bench.peers.onnx_engines import OpenVino

    return OpenVino(graph, threads)


def _mnn(graph: Graph, threads: int, **how: bool) -> Engine:
    from bench.peers.mobile_engines import Mnn

    return Mnn(graph, threads, **how)


def _ncnn(graph: Graph, threads: int) -> Engine:
    from bench.peers.mobile_engines import Ncnn

    return Ncnn(graph, threads)


ENGINES: dict[str, Callable[[Graph, int], Engine]] = {
    "torch": _torch,
    "torch-channels-last": partial(_torch, channels_last=True),
    "torch-compile": partial(_torch, compiled=True),
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "ncnn": _ncnn,
    "mnn": _mnn,
    "mnn-accurate": partial(_mnn, accurate=True),
    "mnn-sparse": partial(_mnn, accurate=True, sparse=True),
}


class Worker:
    """The engine that was loaded, and the answers to the three kinds of message."""

    def __init__(self) -> None:
        self.engine: Engine | None = None

    def answer(
        self, body: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The reply to one message."""
        if body["do"] == "load":
            self.engine = None  # its memory goes before the next network comes
            self.engine = ENGINES[body["engine"]](_graph(body["graph"], arrays), body["threads"])
            return {"version": self.engine.version}, {}
        if self.engine is None:
            raise RuntimeError("no network was loaded")
        if body["do"] == "run":
            # A copy: what came off the wire may lie at any address.
            self.engine.feed([np.array(x) for x in arrays.values()])
            self.engine.run()
            return {}, {str(i): y for i, y in enumerate(self.engine.outputs())}
        return {}, {"nanoseconds": _time(self.engine, body["calls"], body["warmup"])}


def _graph(text: str, arrays: Mapping[str, np.ndarray]) -> Graph:
    held: dict[str, dict[str, Constant]] = {"constant": {}, "mask": {}}
    for key, array in arrays.items():
        kind, _, name = key.partition(" ")
        held[kind][name] = Constant(array)
    return parse(text, held["constant"], held["mask"])


def _time(engine: Engine, calls: int, warmup: int) -> np.ndarray:
    run, clock = engine.run, time.perf_counter_ns
    for _ in range(warmup):
        run()
    times = np.zeros(calls, np.int64)
    for i in range(calls):
        begin = clock()
        run()
        times[i] = clock() - begin
    return times


def serve(stream: socket.socket) -> None:
    """Answer until the other side ends."""
    worker = Worker()
    while True:
        try:
            body, arrays = wire.receive(stream)
        except wire.WireError:
            return
        try:
            reply, results = worker.answer(body, arrays)
        except ModuleNotFoundError as error:
            why = f"{error.name} is not installed; pip install 'gossamer[bench,torch]' brings it"
            reply, results = {"error": why}, {}
        except Exception as error:  # whatever an engine raises is an answer, told by name
            lines = str(error).strip().splitlines() or [""]
            reply, results = {"error": f"{type(error).__name__}: {lines[0]}"}, {}
        wire.send(stream, reply, **results)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
