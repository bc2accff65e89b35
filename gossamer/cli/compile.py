"""The verb `compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gossamer.capturing import FILES
from gossamer.cli.models import Shapes, StoredAs, Threads, plan_of
from gossamer.cli.output import show_json, show_line, working
from gossamer.errors import ModelError
from gossamer.listing import assembly_text, llvm_text, object_bytes
from jit.artifact import Artifact, NativeArtifact, OpenCLArtifact, build
from jit.files import write_whole

_SUFFIXES = {"asm": ".s", "llvm": ".ll", "object": ".o", "opencl": ".cl"}
"""What can be written, by name, and how its file ends."""


def compile(
    model: str,
    *,
    out: Annotated[Path, Parameter(alias="-o")],
    emit: str | None = None,
    target: str | None = None,
    threads: Threads = None,
    weights: StoredAs = None,
    shape: Shapes = None,
    json: bool = False,
) -> int:
    """Write the code of a plan's kernels into a folder.

    Each kernel is `void NAME(void **buffers, int64_t *params)`: its buffers, its parameters, then
    the begin and end of each of its parallel loops.

    Example: `gossamer compile net.safetensors --emit asm,object -o code`

    Parameters
    ----------
    model
        A plan file, or a model as for `gossamer plan`.
    out
        The folder, made when it is missing; files are named after the plan's file.
    emit
        Which forms, between commas: asm, llvm, object for a CPU, opencl for an OpenCL device.
        All that the plan's target has, where not given.
    target
        Needed where MODEL is not a plan yet; "host" by default.
    json
        Print JSON.
    """
    made = plan_of(model, target, shape, threads, weights)
    with working("compiling"):
        artifact = build(made)
        contents = {form: _content(artifact, form) for form in _forms(artifact, emit)}
    out.mkdir(parents=True, exist_ok=True)
    written: dict[str, dict[str, object]] = {}
    for form, content in contents.items():
        path = (out / _stem(model)).with_suffix(_SUFFIXES[form])
        write_whole(path, content)
        written[form] = {"path": str(path), "bytes": len(content)}
    if json:
        show_json({"target": made.target, "kernels": list(artifact.kernels), "files": written})
        return 0
    show_line(f"{len(artifact.kernels)} kernels for {made.target}")
    for entry in written.values():
        show_line(f"{entry['path']}  {entry['bytes']} bytes")
    return 0


def _forms(artifact: Artifact, emit: str | None) -> list[str]:
    source = isinstance(artifact, OpenCLArtifact)
    possible = [form for form in _SUFFIXES if (form == "opencl") == source]
    for form in emit.split(",") if emit else possible:
        if form not in possible:
            raise ModelError(
                f"--emit {form!r} cannot be written for {artifact.target.name}; what can is "
                f"{', '.join(possible)}"
            )
    return emit.split(",") if emit else possible


def _content(artifact: NativeArtifact | OpenCLArtifact, form: str) -> bytes:
    if isinstance(artifact, OpenCLArtifact):
        return artifact.source.encode()
    if form == "object":
        return object_bytes(artifact)
    return (assembly_text if form == "asm" else llvm_text)(artifact).encode()


def _stem(model: str) -> str:
    """A file name from MODEL: `net` of net.safetensors, `demo_dense` of demo:dense."""
    path = Path(model)
    name = path.stem if path.suffix in (".safetensors", *FILES) else path.name
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
