"""The verb `run`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter
from cyclopts.validators import Number

from gossamer.cli.models import Shapes, Threads, plan_of
from gossamer.cli.output import counted, show_json, show_line, working
from gossamer.errors import ModelError
from gossamer.front import compile as load_on
from jit.files import write_whole
from jit.inputs import random_inputs
from refimpl.plan import Plan

_NOT_NUMBERS = "is not a .npy file of real numbers; numpy.save writes one"


def run(
    model: str,
    *,
    input: Annotated[list[Path] | None, Parameter(alias="-i")] = None,
    device: str = "host",
    out: Annotated[list[Path] | None, Parameter(alias="-o")] = None,
    seed: Annotated[int | None, Parameter(validator=Number(gte=0))] = None,
    cache: Annotated[bool, Parameter(negative="--no-cache")] = True,
    threads: Threads = None,
    shape: Shapes = None,
    json: bool = False,
) -> int:
    """Run a plan once: .npy files in, .npy files out.

    Example: `gossamer run net.safetensors --input x.npy --device host -o y.npy`

    Parameters
    ----------
    model
        A plan file, or a model as for `gossamer plan` (planned for the host).
    input
        One .npy file for each input of the plan, in its order.
    device
        host, host-isolated, qemu:CPU, opencl; `gossamer devices` lists them.
    out
        Where to write the outputs, one .npy file each; without it, they are described.
    seed
        Draw the inputs by this seed in place of files: normal values, or indices in range.
    cache
        Keep compiled code in the user's cache folder.
    json
        Print JSON.
    """
    plan = plan_of(model, None, shape, threads)
    given = random_inputs(plan, seed) if seed is not None else _read(plan, input or [])
    if out and len(out) != len(plan.outputs):
        raise ModelError(
            f"{plan.name} has {counted(len(plan.outputs), 'output')}, -o was given {len(out)}"
        )
    with working(f"running on {device}"), load_on(plan, device, cache=cache) as network:
        made = network(*given)
    outputs = made if isinstance(made, tuple) else (made,)
    for path, array in zip(out or [], outputs, strict=False):
        write_whole(path, _npy(array))
    described = [_described(n, y) for n, y in zip(plan.outputs, outputs, strict=True)]
    if json:
        show_json({"device": device, "outputs": described})
    else:
        for d in described:
            show_line("{name}: {shape}, from {least:.6g} to {most:.6g}, first {first}".format(**d))
        for path in out or []:
            show_line(f"written to {path}")
    return 0


def _read(plan: Plan, paths: list[Path]) -> list[np.ndarray]:
    if len(paths) != len(plan.inputs):
        wanted = ", ".join(f"{name} {plan.places[name].shape}" for name in plan.inputs)
        raise ModelError(
            f"{plan.name} takes {counted(len(plan.inputs), 'input')} ({wanted}), --input was "
            f"given {len(paths)}; --seed N draws them"
        )
    return [_array(path) for path in paths]


def _array(path: Path) -> np.ndarray:
    try:
        # Mapped, so that a file that claims more than it holds is refused before any allocation.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as error:  # numpy's words would advise pickle
        raise ModelError(f"{path} {_NOT_NUMBERS}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ModelError(f"{path} {_NOT_NUMBERS}")
    return array


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _described(name: str, array: np.ndarray) -> dict[str, object]:
    first = [float(f"{v:.6g}") for v in array.reshape(-1)[:4]]
    return {
        "name": name,
        "shape": array.shape,
        "least": float(array.min()),
        "most": float(array.max()),
        "first": first,
    }
