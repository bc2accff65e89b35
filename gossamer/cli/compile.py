"""The verb `compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from gossamer.cli.models import plan_of
from gossamer.cli.output import show_json, show_line, working
from gossamer.errors import ModelError
from gossamer.listing import assembly_text, llvm_text, object_bytes
from jit.artifact import Artifact, build
from jit.files import write_whole

Form = Literal["asm", "llvm", "object"]
_SUFFIXES: dict[Form, str] = {"asm": ".s", "llvm": ".ll", "object": ".o"}


def compile(
    model: str,
    *,
    out: Annotated[Path, Parameter(alias="-o")],
    emit: Annotated[str, Parameter()] = "asm,llvm,object",
    target: str | None = None,
    json: bool = False,
) -> int:
    """Write the code of a plan's kernels into a folder.

    Each kernel is `void NAME(void **buffers, int64_t *params, int64_t task, int64_t tasks)`.

    Example: `gossamer compile net.safetensors --emit asm,object -o code`

    Parameters
    ----------
    model
        A plan file, or a model as for `gossamer plan`.
    out
        The folder, made when it is missing; files are named after the plan's file.
    emit
        Which forms, between commas: asm, llvm, object.
    target
        Needed where MODEL is not a plan yet; "host" by default.
    json
        Print JSON.
    """
    forms = _forms(emit)
    made = plan_of(model, target)
    with working("compiling"):
        artifact = build(made)
        contents = {form: _content(artifact, form) for form in forms}
    out.mkdir(parents=True, exist_ok=True)
    written = {}
    for form, content in contents.items():
        path = out / f"{_stem(model)}{_SUFFIXES[form]}"
        write_whole(path, content)
        written[form] = {"path": str(path), "bytes": len(content)}
    if json:
        show_json({"target": made.target, "kernels": list(artifact.kernels), "files": written})
        return 0
    kernels = len(artifact.kernels)
    show_line(f"{kernels} kernels, {len(artifact.blob.code)} bytes of code for {made.target}")
    for entry in written.values():
        show_line(f"{entry['path']}  {entry['bytes']} bytes")
    return 0


def _forms(emit: str) -> list[Form]:
    asked = emit.split(",")
    unknown = [form for form in asked if form not in _SUFFIXES]
    if unknown:
        raise ModelError(f"--emit {unknown[0]!r} is not known; forms are {', '.join(_SUFFIXES)}")
    return [form for form in _SUFFIXES if form in asked]


def _content(artifact: Artifact, form: Form) -> bytes:
    if form == "object":
        return object_bytes(artifact)
    return (assembly_text if form == "asm" else llvm_text)(artifact).encode()


def _stem(model: str) -> str:
    """A file name from MODEL: `net` of net.safetensors, `demo_dense` of demo:dense."""
    name = Path(model).name.removesuffix(".safetensors")
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
