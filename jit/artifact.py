"""Artifact: what runs.  Code for one target, its launches in order, constants, memory needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jit.cache import Code, CodeCache, Signature, code_key
from jit.launches import Launch, launches
from jit.linker import Blob, link
from jit.llvm import emit_ir, emit_object
from jit.pipeline import Kernel, lower
from jit.target import Target, target
from refimpl.plan import Plan

# Walks a table of (kernel, buffers, params) so that a whole network is one call.
_RUN = """
define hidden void @run(ptr %table, i64 %count, i64 %task, i64 %tasks) nounwind "no-builtins" {
entry:
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %loop, label %done
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %at = mul nuw nsw i64 %i, 3
  %entry.kernel = getelementptr ptr, ptr %table, i64 %at
  %entry.buffers = getelementptr ptr, ptr %entry.kernel, i64 1
  %entry.params = getelementptr ptr, ptr %entry.kernel, i64 2
  %kernel = load ptr, ptr %entry.kernel
  %buffers = load ptr, ptr %entry.buffers
  %params = load ptr, ptr %entry.params
  call void %kernel(ptr %buffers, ptr %params, i64 %task, i64 %tasks)
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""


@dataclass(frozen=True)
class Artifact:
    """A compiled Plan: code and data, nothing that needs a compiler to run.

    `signatures` says, for each kernel's symbol in the blob, what it takes in which order.
    """

    plan: Plan
    target: Target
    blob: Blob
    signatures: Mapping[str, Signature]
    launches: tuple[Launch, ...]
    constants: bytes

    @property
    def kernels(self) -> dict[str, Kernel]:
        """The kernels in the code, by symbol."""
        return kernel_symbols(self.launches)


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


def module_ir(kernels: Mapping[str, Kernel], machine: Target) -> str:
    """The LLVM module of the kernels and the walker `run`."""
    programs = [replace(lower(k).program, name=symbol) for symbol, k in kernels.items()]
    return emit_ir(programs, machine) + _RUN


def emit(kernels: Mapping[str, Kernel], machine: Target, optimisation: int = 2) -> Code:
    """Lower the kernels and emit their code; `optimisation` as for `build`."""
    signatures = {}
    for symbol, kernel in kernels.items():
        program = lower(kernel).program
        signatures[symbol] = Signature(tuple(b.name for b in program.buffers),
                                       tuple(p.name for p in program.params))
    return Code(emit_object(module_ir(kernels, machine), machine, optimisation), signatures)


def build(plan: Plan, optimisation: int = 2, cache: CodeCache | None = None) -> Artifact:
    """Lower, emit and link a Plan.

    Args:
        plan: checked by whoever made it.
        optimisation: LLVM's code generation level, 0 to 3.
        cache: where code emitted before is found and new code is kept; None emits.

    Raises:
        PlanError: a step has no kernel. TargetError: the plan's target is unknown.
    """
    machine = target(plan.target)
    sequence, constants = launches(plan, machine)
    kernels = kernel_symbols(sequence)
    key = code_key(kernels, machine, optimisation) if cache else ""
    code = cache.get(key) if cache else None
    if code is None:
        code = emit(kernels, machine, optimisation)
        if cache:
            cache.put(key, code)
    blob = link([code.data])
    return Artifact(plan, machine, blob, code.signatures, tuple(sequence), constants)
