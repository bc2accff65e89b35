"""The code of an artifact as text and as an object file, whole or of one layer."""

from __future__ import annotations

from gossamer.errors import ModelError
from jit.artifact import Artifact, module_ir
from jit.llvm import emit_assembly, emit_object
from jit.pipeline import Kernel
from jit.target import llvm_target


def llvm_text(artifact: Artifact, layer: str | None = None) -> str:
    """The LLVM IR of a layer's kernels, or of all.

    Args:
        artifact: from `jit.artifact.build`.
        layer: the label or the name of a step, as a plan's report gives it.

    Raises:
        ModelError: the plan has no such layer. TargetError: its target is no CPU.
    """
    return module_ir(kernels_of(artifact, layer), llvm_target(artifact.target.name))


def assembly_text(artifact: Artifact, layer: str | None = None) -> str:
    """The assembly of a layer's kernels, or of all; as `llvm_text`."""
    return emit_assembly(llvm_text(artifact, layer), llvm_target(artifact.target.name))


def object_bytes(artifact: Artifact) -> bytes:
    """All kernels as one relocatable ELF object with hidden symbols."""
    return emit_object(llvm_text(artifact), llvm_target(artifact.target.name))


def kernels_of(artifact: Artifact, layer: str | None) -> dict[str, Kernel]:
    """The kernels that a layer launches, by symbol; all where `layer` is None.

    Raises:
        ModelError: the plan has no such layer.
    """
    if layer is None:
        return artifact.kernels
    steps = artifact.plan.steps
    named = {s.name for s in steps if layer in (s.name, s.label, *s.covers)}
    if not named:
        labels = ", ".join(s.label for s in steps)
        raise ModelError(f"{artifact.plan.name} has no layer {layer!r}; it has {labels}")
    used = {launch.kernel for launch in artifact.launches if launch.step in named}
    return {symbol: kernel for symbol, kernel in artifact.kernels.items() if kernel in used}
