"""Artifact: what runs.  Code for one target, its launches in order, constants, memory needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jit.cache import Code, CodeCache, Signature, code_key
from jit.launches import Launch, launches
from jit.linker import Blob, link
from jit.llvm import emit_ir, emit_object
from jit.opencl.emitter import emit_source
from jit.pipeline import Kernel, lower
from jit.program import Program
from jit.target import LlvmTarget, OpenCLTarget, Target, llvm_target, target
from jit.walker import RUN, run_object, team_object
from refimpl.plan import Plan


@dataclass(frozen=True)
class Artifact:
    """A compiled Plan, whatever its code is: the launches in order, and their constants."""

    plan: Plan
    target: Target
    launches: tuple[Launch, ...]
    constants: bytes

    @property
    def kernels(self) -> dict[str, Kernel]:
        """The kernels in the code, by symbol."""
        return kernel_symbols(self.launches)


@dataclass(frozen=True)
class NativeArtifact(Artifact):
    """Machine code and data, nothing that needs a compiler to run.

    `signatures` says, for each kernel's symbol in the blob, what it takes in which order.
    """

    blob: Blob
    signatures: Mapping[str, Signature]


@dataclass(frozen=True)
class OpenCLArtifact(Artifact):
    """OpenCL C, which the device's own compiler turns into code when it is loaded."""

    source: str


def kernel_symbols(sequence: Sequence[Launch]) -> dict[str, Kernel]:
    """A symbol for every different kernel; equal kernels share code."""
    symbols: dict[Kernel, str] = {}
    taken: dict[str, int] = {}
    for launch in sequence:
        if launch.kernel not in symbols:
            name = launch.kernel.name
            taken[name] = taken.get(name, 0) + 1
            symbols[launch.kernel] = name if taken[name] == 1 else f"{name}_{taken[name]}"
    return {symbol: kernel for kernel, symbol in symbols.items()}


def module_ir(kernels: Mapping[str, Kernel], machine: LlvmTarget) -> str:
    """One LLVM module of the kernels and the walker `run`."""
    return emit_ir(_programs(kernels), machine) + RUN


def _programs(kernels: Mapping[str, Kernel]) -> list[Program]:
    return [replace(lower(kernel).program, name=symbol) for symbol, kernel in kernels.items()]


def emit(symbol: str, kernel: Kernel, machine: LlvmTarget, optimisation: int = 2) -> Code:
    """Lower a kernel and emit its code; `optimisation` as for `build`."""
    (program,) = _programs({symbol: kernel})
    code = emit_object(emit_ir([program], machine), machine, optimisation)
    return Code(code, Signature.of(program))


def build(
    plan: Plan, optimisation: int = 2, cache: CodeCache | None = None
) -> NativeArtifact | OpenCLArtifact:
    """Lower and emit a Plan, and link it where its target is a CPU.

    Args:
        plan: its `target` says what is made.
        optimisation: LLVM's code generation level, 0 to 3; OpenCL devices have compilers of
            their own, and caches.
        cache: where machine code emitted before is found and new code is kept; None emits.

    Raises:
        PlanError: a step has no kernel. TargetError: the plan's target is unknown.
    """
    machine = target(plan.target)
    sequence, constants = launches(plan, machine)
    shared = (plan, machine, tuple(sequence), constants)
    kernels = kernel_symbols(sequence)
    if isinstance(machine, OpenCLTarget):
        return OpenCLArtifact(*shared, emit_source(_programs(kernels), machine))
    cpu = llvm_target(plan.target)
    codes = {s: _code(s, kernel, cpu, optimisation, cache) for s, kernel in kernels.items()}
    walkers = [run_object(cpu), *([team_object(cpu)] if plan.threads > 1 else [])]
    blob = link([*(code.data for code in codes.values()), *walkers])
    return NativeArtifact(*shared, blob, {s: code.signature for s, code in codes.items()})


def _code(
    symbol: str, kernel: Kernel, machine: LlvmTarget, optimisation: int, cache: CodeCache | None
) -> Code:
    if cache is None:
        return emit(symbol, kernel, machine, optimisation)
    key = code_key(symbol, kernel, machine, optimisation)
    code = cache.get(key)
    if code is None:
        code = emit(symbol, kernel, machine, optimisation)
        cache.put(key, code)
    return code
