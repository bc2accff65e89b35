"""The verb `check`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from gossamer.cli.models import Shapes, Threads, plan_of
from gossamer.cli.output import show_json, show_line, working
from gossamer.front import check as check_plan


def check(
    model: str,
    *,
    device: str = "host-isolated",
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    threads: Threads = None,
    shape: Shapes = None,
    json: bool = False,
) -> int:
    """Run a plan layer by layer on a device and hold each layer to its proven error bound.

    Exits with 1 if any layer is out of its bound.

    Example: `gossamer check net.safetensors --device qemu:cortex-a76`

    Parameters
    ----------
    model
        A plan file, or a model as for `gossamer plan` (planned for the host).
    device
        host-isolated (the default), host, qemu:CPU, opencl; `gossamer devices` lists them.
    seed
        Of the inputs that are drawn.
    json
        Print JSON.
    """
    plan = plan_of(model, None, shape, threads)
    with working(f"checking {plan.name} on {device}"):
        report = check_plan(plan, device, seed=seed)
    if json:
        show_json({"device": device, **report.json()})
    else:
        show_line(str(report))
    return 0 if report.ok else 1
