"""The public functions from a Graph on: to a plan, and to a network that runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import jit.decide
import jit.tune
from gossamer.errors import ModelError
from gossamer.network import Network
from jit.artifact import build
from jit.cache import CodeCache
from jit.decide.halved import Weights
from jit.executable import open_executable
from jit.inputs import random_inputs
from jit.plan_file import load_plan, save_plan
from jit.session import DeviceError
from refimpl.graph import Graph
from refimpl.plan import Plan

if TYPE_CHECKING:
    from conformance.check import CheckReport


def plan(
    graph: Graph, target: str = "host", threads: int = 1, *, weights: Weights = "float32"
) -> Plan:
    """Every decision of how `graph` is computed on `target`; `print(plan)` explains them.

    Args:
        graph: from `capture`.
        target: what the code is made for: "host", a CPU's name such as "cortex-a76", or "opencl".
        threads: that run the network together, each with a share of every layer that is large
            enough. Results do not depend on their number.
        weights: "float16" stores the weights of linear layers and recurrences in 16 bits: half
            the bytes, which is what their time goes into. Sums stay in float32. The plan means
            the rounded weights, and says for every layer how far they were rounded.

    Raises:
        ModelError: it is no Graph.
        TargetError: an unknown target. PlanError: a layer cannot be compiled yet, by its name;
            the target's devices cannot run that many threads; or they cannot widen float16, or
            a layer's weights are beyond it.
    """
    _check_graph(graph)
    return jit.decide.plan(graph, target, threads, weights=weights)


def tune(
    graph: Graph,
    device: str = "host",
    target: str | None = None,
    threads: int = 1,
    *,
    weights: Weights = "float32",
    table: str | Path | None = None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Plan:
    """A plan whose choices are measured: each layer's candidates run on the device.

    What was measured is kept, also when tuning is interrupted, and found again by the next tuning
    of the same layers on the same machine.

    Args:
        graph, threads, weights: as for `plan`.
        device: where candidates are timed, "host", "host-isolated" or "opencl".
        target: what the code is made for; None is what suits the device.
        table: file of measured times; None is the one in the user's cache folder.
        tell: is called with how many candidates of all layers are known, and of how many.

    Raises:
        ModelError: it is no Graph. TargetError, PlanError: as for `plan`.
        DeviceError: the device fails, or does not run in real time.
        TableError: the table cannot be read or written.
    """
    _check_graph(graph)
    path = None if table is None else Path(table)
    return jit.tune.tune(
        graph,
        device,
        target,
        threads=threads,
        weights=weights,
        table=path,
        cache=_user_cache(),
        tell=tell,
    )


def compile(
    plan: Plan, device: str = "host", *, counting: bool = False, cache: bool = True
) -> Network:
    """Make code for the plan and load it on a device.  Close the network, or use `with`.

    Args:
        plan: for a target that the device can run.
        device: where it runs: "host", "host-isolated" (a process of its own), "qemu:cortex-a76",
            "opencl".
        counting: ask for instruction counts, where the device can give them.
        cache: keep compiled kernels in the user's cache folder, and look there first.

    Raises:
        ModelError: it is no Plan.
        DeviceError: the device cannot be opened, or lacks what the plan's target has.
    """
    _check_plan(plan)
    artifact = build(plan, cache=_user_cache() if cache else None)
    return Network(open_executable(artifact, device, counting=counting))


def _check_graph(graph: Graph) -> None:
    if not isinstance(graph, Graph):
        raise ModelError(f"{type(graph).__name__} is no Graph: gossamer.capture makes one")


def _check_plan(plan: Plan) -> None:
    if not isinstance(plan, Plan):
        raise ModelError(f"{type(plan).__name__} is no Plan: gossamer.plan makes one of a Graph")


def _user_cache() -> CodeCache | None:
    try:
        return CodeCache.of_user()
    except DeviceError as error:
        warnings.warn(f"compiled code is not kept: {error}", stacklevel=3)
        return None


def check(
    plan: Plan,
    device: str = "host-isolated",
    *,
    inputs: Sequence[np.ndarray] | None = None,
    seed: int = 0,
) -> CheckReport:
    """Run the plan layer by layer and hold each layer to its proven error bound.

    Args:
        plan: any.
        device: as for `compile`.
        inputs: one array for each input of the plan; normal values drawn by `seed` where None.
        seed: of the values.

    Raises:
        ModelError: it is no Plan. InputError: an input does not fit.
        DeviceError: as for `compile`.
    """
    _check_plan(plan)
    from conformance.check import check_plan

    given = random_inputs(plan, seed) if inputs is None else inputs
    with compile(plan, device) as network:
        network.executable.feed(*given)  # what does not fit is refused before a step is judged
        return check_plan(plan, network.executable, tuple(given))


def save(plan: Plan, path: str | Path) -> None:
    """Write the plan to one safetensors file: all of it, or nothing on an error.

    Raises:
        ModelError: it is no Plan. PlanFileError: the file cannot be written.
    """
    _check_plan(plan)
    save_plan(plan, path)


def load(path: str | Path) -> Plan:
    """The plan in a file; nothing in it is executed, all of it is checked.

    Raises:
        PlanFileError: it is no plan file, damaged, of another version, or unsound.
    """
    return load_plan(path)
