"""The verb `doctor`."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np

from gossamer.cli.output import show_json, show_line, show_table, working


@dataclass(frozen=True)
class Finding:
    """One thing that was tried: whether it works, what was seen, how to get it, is it the core."""

    what: str
    works: bool
    detail: str
    how: str
    core: bool

    @property
    def advice(self) -> str:
        """What was seen, and how to get what does not work, once."""
        return (
            self.detail if self.works or self.how in self.detail else f"{self.detail}; {self.how}"
        )


class _MissingError(Exception):
    """Something is not there; the message says what was seen."""


def doctor(*, json: bool = False) -> int:
    """Try every part of gossamer here, and say how to get what is missing.

    Exits with 1 only if the core (planning, compiling, running on this host) does not work.

    Example: `gossamer doctor`

    Parameters
    ----------
    json
        Print JSON.
    """
    with working("trying everything"):
        found = [_try(*check) for check in CHECKS]
    broken = [f for f in found if f.core and not f.works]
    if json:
        show_json([asdict(f) for f in found])
    else:
        rows = ((f.what, "yes" if f.works else "no", f.advice) for f in found)
        show_table(("what", "works", "what was seen, and how to get it"), rows, left=2)
        show_line("the core does not work here" if broken else "the core works here")
    return 1 if broken else 0


def _try(what: str, core: bool, probe: Callable[[], str], how: str) -> Finding:
    try:
        return Finding(what, True, probe(), "", core)
    except Exception as error:  # whatever breaks, the others are still tried
        detail = str(error).strip().partition("\n")[0] or type(error).__name__
        return Finding(what, False, detail, how, core)


# -- probes: each returns what was seen, or raises -------------------------------------------------


def _python() -> str:
    return sys.version.split()[0]


def _llvm() -> str:
    import llvmlite
    import llvmlite.binding as llvm

    from jit.target import target, target_machine

    target_machine(target("cortex-a53"))
    target_machine(target("x86-64-sse"))
    numbers = ".".join(map(str, llvm.llvm_version_info))
    return f"llvmlite {llvmlite.__version__}, LLVM {numbers}, for aarch64 and x86-64"


def _host() -> str:
    from jit.devices import open_device
    from jit.target import host_target

    with open_device("host") as session:
        info = session.info
    return f"{info.description}, {info.cores} cores, target {host_target().name}"


def _network(device: str, target: str) -> Callable[[], str]:
    def probe() -> str:
        from gossamer.front import compile, plan
        from jit.inputs import random_inputs
        from refimpl.graph import Constant, Graph, Node
        from refimpl.plan import evaluate

        weight = np.arange(40, dtype=np.float32).reshape(8, 5) / 40
        node = Node(("y",), "linear", ("x", "w"))
        graph = Graph("probe", (("x", (3, 5)),), (node,), ("y",), {"w": Constant(weight)})
        made = plan(graph, target)
        inputs = random_inputs(made)
        with compile(made, device, cache=False) as network:
            outputs = network(*inputs)
        error = float(np.abs(outputs - evaluate(made, *inputs)[made.outputs[0]]).max())
        if not error < 1e-5:
            raise _MissingError(f"a layer was computed with the error {error}")
        return "a layer was compiled, run and compared"

    return probe


def _cache() -> str:
    from jit.private import private_folder

    return str(private_folder())


def _counting() -> str:
    from jit.devices import open_device

    with open_device("qemu", counting=True) as session:
        if session.counting is not None:
            raise _MissingError(session.counting)
    return "guest instructions are counted"


def _packages(*names: str) -> Callable[[], str]:
    def probe() -> str:
        for name in names:
            importlib.import_module(_MODULES.get(name, name))
        return ", ".join(f"{name} {version(name)}" for name in names)

    return probe


def _program(*names: str) -> Callable[[], str]:
    def probe() -> str:
        for name in names:
            path = shutil.which(name)
            if path:
                return path
        raise _MissingError(f"{' or '.join(names)} is not installed")

    return probe


_MODULES = {"scikit-learn": "sklearn"}
_QEMU = "apt-get install qemu-user"

CHECKS: tuple[tuple[str, bool, Callable[[], str], str], ...] = (
    ("python", True, _python, "install Python 3.11 or newer"),
    (
        "packages",
        True,
        _packages("numpy", "safetensors", "rich", "cyclopts"),
        "pip install --force-reinstall gossamer",
    ),
    ("llvm", True, _llvm, "pip install --force-reinstall llvmlite"),
    ("host", True, _host, "use a Linux machine with an x86-64 or aarch64 CPU"),
    ("cache folder", True, _cache, "set XDG_CACHE_HOME to a folder of yours"),
    ("run on host", True, _network("host", "host"), "report this with what `--traceback` prints"),
    (
        "host-isolated",
        True,
        _network("host-isolated", "host"),
        "set XDG_CACHE_HOME where programs may run",
    ),
    ("aarch64 emulator", False, _network("qemu:cortex-a76", "cortex-a76"), _QEMU),
    ("instruction counts", False, _counting, "apt-get install qemu-user gcc"),
    ("opencl", False, _network("opencl", "opencl"), "pip install 'gossamer[opencl]'"),
    ("capture, prune", False, _packages("torch"), "pip install 'gossamer[torch]'"),
    ("capture of .onnx", False, _packages("onnx"), "pip install 'gossamer[onnx]'"),
    ("demo's data", False, _packages("scikit-learn"), "pip install 'gossamer[data]'"),
    ("reports", False, _packages("jinja2", "pygments"), "pip install 'gossamer[report]'"),
    (
        "property tests",
        False,
        _packages("hypothesis", "pytest"),
        "pip install 'gossamer[conformance]'",
    ),
    ("rebuilding the agent", False, _program("clang"), "apt-get install clang lld"),
)
"""What is tried: its name, whether it is the core, the probe, and how to get it."""
