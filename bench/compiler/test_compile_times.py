"""How long compiling takes, phase by phase: `python -m pytest bench/compiler -o addopts=`.

The network is the demo's.  Nothing is asserted; compare two runs with pytest-benchmark's own
`--benchmark-save` and `--benchmark-compare`.  Where a phase lowers kernels, the cache of lowering
is emptied before every round, in a step that is not timed; LLVM is warm after the first.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.networks import DEMO_RATIOS, demo, pruned
from jit.artifact import Artifact, build, kernel_symbols, module_ir
from jit.decide import plan
from jit.devices import open_device
from jit.executable import Executable
from jit.launches import launches
from jit.linker import link
from jit.llvm import emit_ir, emit_object
from jit.pipeline import lower
from jit.session import MachineSession
from jit.target import llvm_target
from prune.demo.network import MotionNet
from refimpl.graph import Graph
from refimpl.importers.torch import capture
from refimpl.plan import Plan
from refimpl.schemes import KGS
from refimpl.tiles import pack, unpack

ROUNDS = 5
TARGETS = ("host", "cortex-a76")


@cache
def network() -> Graph:
    """The demo's network at its known ratios."""
    return pruned(demo(), DEMO_RATIOS["3x"], KGS(8, 4))


@cache
def planned(name: str) -> Plan:
    """The network planned for a target."""
    return plan(network(), name)


@cache
def built(name: str) -> Artifact:
    """The network built for a target."""
    return build(planned(name))


def ir(name: str) -> str:
    """The network's LLVM module."""
    machine = llvm_target(planned(name).target)
    return module_ir(kernel_symbols(launches(planned(name), machine)[0]), machine)


def test_capture(benchmark: BenchmarkFixture) -> None:
    """The demo's module through torch.export to a Graph."""
    module, clip = MotionNet(), torch.zeros(1, 1, 16, 32, 32)
    benchmark.pedantic(lambda: capture(module, (clip,)), rounds=ROUNDS, warmup_rounds=1)


@pytest.mark.parametrize("name", TARGETS)
def test_plan(benchmark: BenchmarkFixture, name: str) -> None:
    """Folding, schedules, layouts, packing and the arena."""
    benchmark.pedantic(plan, (network(), name), rounds=ROUNDS)


def test_pack(benchmark: BenchmarkFixture) -> None:
    """The largest weight, 128 x 128 x 3 x 3 x 3 at 30 %, in strips of 32."""
    weight = network().constants["conv3b.weight"].array
    stored = network().sparsity["conv3b.weight"].mask.array
    benchmark.pedantic(pack, (weight, stored, [32] * 4, 64), rounds=ROUNDS)


def test_unpack(benchmark: BenchmarkFixture) -> None:
    """The same weight, back."""
    packed = planned("host").weights
    largest = max(packed.values(), key=lambda tiles: tiles.stored)
    benchmark.pedantic(unpack, (largest,), rounds=ROUNDS)


@pytest.mark.parametrize("name", TARGETS)
def test_lower(benchmark: BenchmarkFixture, name: str) -> None:
    """Every stage of every different kernel; the cache is emptied before."""
    kernels = list(built(name).kernels.values())
    benchmark.extra_info["kernels"] = len(kernels)
    benchmark.pedantic(
        lambda: [lower(kernel) for kernel in kernels], setup=lower.cache_clear, rounds=ROUNDS
    )


@pytest.mark.parametrize("name", TARGETS)
def test_emit(benchmark: BenchmarkFixture, name: str) -> None:
    """Lowered programs to LLVM's text."""
    machine = llvm_target(planned(name).target)
    programs = [
        replace(lower(kernel).program, name=symbol)
        for symbol, kernel in built(name).kernels.items()
    ]
    benchmark.pedantic(emit_ir, (programs, machine), rounds=ROUNDS)


@pytest.mark.parametrize("name", TARGETS)
def test_code_generation(benchmark: BenchmarkFixture, name: str) -> None:
    """LLVM: text to an object."""
    text, machine = ir(name), llvm_target(planned(name).target)
    benchmark.extra_info["kernels"] = len(built(name).kernels)
    benchmark.pedantic(emit_object, (text, machine), rounds=ROUNDS, warmup_rounds=1)


@pytest.mark.parametrize("name", TARGETS)
def test_link(benchmark: BenchmarkFixture, name: str) -> None:
    """The object to placed code."""
    objects = [emit_object(ir(name), llvm_target(planned(name).target))]
    benchmark.pedantic(link, (objects,), rounds=ROUNDS)


@pytest.mark.parametrize("name", TARGETS)
def test_build(benchmark: BenchmarkFixture, name: str) -> None:
    """All of it from a Plan: constants, lowering, emitting, code generation, linking."""
    benchmark.pedantic(build, (planned(name),), setup=lower.cache_clear, rounds=ROUNDS)


def test_load(benchmark: BenchmarkFixture) -> None:
    """An artifact onto the host: code placed, constants copied."""
    with open_device("host") as session:
        benchmark.pedantic(
            lambda: Executable(built("host"), session).close(), rounds=ROUNDS, warmup_rounds=1
        )


def test_agent_round_trip(benchmark: BenchmarkFixture) -> None:
    """One small request to the agent beside us and its answer."""
    with open_device("host-isolated") as session:
        assert isinstance(session, MachineSession)
        address = session.alloc(64)
        session.write(address, np.zeros(16, np.float32))
        benchmark(session.read, address, 64)
