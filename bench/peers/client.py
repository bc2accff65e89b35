"""Our end of a peer: start its process, send it a Graph, ask it to run and to time itself."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

import bench
from bench.peers import wire
from refimpl.graph import Graph

PEERS = (
    "torch", "torch-channels-last", "torch-compile", "onnxruntime", "openvino", "ncnn", "mnn",
    "mnn-accurate", "mnn-sparse",
)  # fmt: skip
"""Engines by name; what each is stands in `bench.peers.worker`."""

_START_S = 300.0  # importing an engine and compiling a network; torch.compile is the slow one
_TAIL = 400  # characters of a dead worker's last words that a message repeats


class PeerError(RuntimeError):
    """A peer that cannot be measured; the message names it and says why."""


class Peer:
    """An engine that holds a network, in a process of its own; a context manager that ends it.

    Args:
        name: what messages and tables call it.
        argv: the command of the worker; the number of its socket is added behind.
        threads: that the engine may use.
        patience_s: silence after which it is given up.

    Raises:
        PeerError: it cannot be started.
    """

    def __init__(
        self, name: str, argv: Sequence[str], threads: int = 1, patience_s: float = _START_S
    ) -> None:
        self.label, self.version = name, ""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self._stream, theirs = socket.socketpair()
        self._stream.settimeout(patience_s)
        with theirs:
            try:
                child = subprocess.Popen(
                    [*argv, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=self._said,
                    stderr=self._said,
                    env=_environment(threads),
                    start_new_session=True,
                )
            except OSError as error:
                raise PeerError(f"{name}: cannot start {argv[0]}: {error.strerror}") from error
        self._child = child
        # Also runs when the peer is collected as garbage and when the interpreter ends.
        self._end = weakref.finalize(self, _end, child, self._stream, os.getpid())

    def load(self, graph: Graph, threads: int) -> None:
        """Give it the network to run.

        Raises:
            PeerError: the engine is missing or does not take the network.
        """
        arrays = {f"constant {name}": c.array for name, c in graph.constants.items()}
        arrays |= {f"mask {name}": s.mask.array for name, s in graph.sparsity.items()}
        body = {"do": "load", "engine": self.label, "threads": threads, "graph": str(graph)}
        self.version = str(self._ask(body, **arrays)[0]["version"])

    def output(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run once on the inputs, which stay there to be measured on; the outputs, float32.

        Inputs are float32, or int64 where they index an embedding.

        Raises:
            PeerError: it failed or died.
        """
        arrays = {
            str(i): x.astype(np.int64 if x.dtype.kind == "i" else np.float32)
            for i, x in enumerate(inputs)
        }
        return tuple(self._ask({"do": "run"}, **arrays)[1].values())

    def measure(self, calls: int, warmup: int) -> tuple[float, ...]:
        """Nanoseconds of each of `calls` runs, by the worker's own clock, after `warmup` more.

        Raises:
            PeerError: it failed or died, or did not time as many runs.
        """
        _, arrays = self._ask({"do": "time", "calls": calls, "warmup": warmup})
        times = arrays.get("nanoseconds", np.zeros(0))
        if times.shape != (calls,) or not (times > 0).all():
            raise PeerError(f"{self.label}: timed {times.size} runs of {calls}, or in no time")
        return tuple(times.tolist())

    @property
    def alive(self) -> bool:
        """Whether its process has neither ended nor been given up."""
        return self._end.alive

    def close(self) -> None:
        """End its process; closing twice is harmless."""
        self._end()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self, body: Mapping[str, Any], **arrays: np.ndarray
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        if not self.alive:
            raise PeerError(f"{self.label}: its process has ended")
        try:
            wire.send(self._stream, body, **arrays)
            reply, results = wire.receive(self._stream)
        except BaseException as error:  # Ctrl-C too: the stream is out of step
            if not isinstance(error, OSError):
                self.close()
                raise
            raise self._lost(error) from error
        if "error" in reply:
            raise PeerError(f"{self.label}: {str(reply['error'])[:_TAIL]}")
        return reply, results

    def _lost(self, error: OSError) -> PeerError:
        """The error for a worker that is of no more use, with all that is known of why."""
        why = "was silent for too long" if isinstance(error, TimeoutError) else f"failed: {error}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(0.0 if isinstance(error, TimeoutError) else 2.0)
        code = self._child.returncode
        if code is not None and code < 0:
            why = f"was killed by {signal.Signals(-code).name}"
        elif code is not None:
            why = f"ended with exit code {code}"
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip()[-_TAIL:]
        self.close()
        return PeerError(f"{self.label}: its process {why}" + (f": {said}" if said else ""))


def open_peer(name: str, graph: Graph, threads: int = 1) -> Peer:
    """One of `PEERS`, holding the network.

    Raises:
        PeerError: no peer has that name, the engine is not installed, or it does not take the
            network.
    """
    peer = start_peer(name, threads)
    try:
        peer.load(graph, threads)
    except BaseException:
        peer.close()
        raise
    return peer


class PeerProcesses:
    """Processes of peers that stay for the next network; a context manager that ends them."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._kept: dict[str, Peer] = {}
        self._lent: set[str] = set()

    @contextlib.contextmanager
    def lend(self, name: str, graph: Graph) -> Iterator[Peer]:
        """One of `PEERS` holding the network, until the block ends; a process for each borrower.

        Raises:
            PeerError: as `open_peer`.
        """
        if name in self._lent:
            with open_peer(name, graph, self.threads) as another:
                yield another
            return
        self._lent.add(name)
        try:
            yield self._loaded(name, graph)
        finally:
            self._lent.discard(name)

    def _loaded(self, name: str, graph: Graph) -> Peer:
        peer = self._kept.get(name)
        if peer is None or not peer.alive:
            peer = self._kept[name] = start_peer(name, self.threads)
        peer.load(graph, self.threads)
        return peer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._kept.values():
            peer.close()


def start_peer(name: str, threads: int) -> Peer:
    """One of `PEERS`, holding nothing yet.

    Raises:
        PeerError: no peer has that name, or its process cannot be started.
    """
    if name not in PEERS:
        raise PeerError(f"no peer is called {name!r}; known are {', '.join(PEERS)}")
    return Peer(name, [sys.executable, "-m", "bench.peers.worker"], threads)


def _environment(threads: int) -> dict[str, str]:
    """Ours, with thread counts set and every known kind of busy waiting off."""
    package = Path(bench.__file__).parent.parent
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(counts, str(threads)),
        "OMP_WAIT_POLICY": "passive",
        "KMP_BLOCKTIME": "0",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no pool of compilers stays behind
        "PYTHONPATH": os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")])),
    }


def _end(child: subprocess.Popen[bytes], stream: socket.socket, owner: int) -> None:
    """Kill and reap the worker, with whatever it started; a forked copy of us leaves it alone."""
    if os.getpid() != owner:
        return
    stream.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
