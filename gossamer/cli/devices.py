"""The verb `devices`."""

from __future__ import annotations

from typing import Any

from gossamer.cli.output import show_json, show_table, working
from jit.devices import DEVICE_NAMES, open_device, target_for
from jit.session import DeviceError
from jit.target import target


def devices(*names: str, json: bool = False) -> int:
    """List where code can run, and what each device is.

    Exits with 1 if a device that was named cannot be opened.

    Example: `gossamer devices host qemu:cortex-a76`

    Parameters
    ----------
    names
        Devices to try; all kinds where none is named.
    json
        Print JSON.
    """
    asked = names or tuple(name.partition("[")[0] for name in DEVICE_NAMES)
    with working("opening devices"):
        found = [_described(name) for name in asked]
    if json:
        show_json(found)
    else:
        show_table(
            ("device", "works", "plan for", "cores", "what it is, or why not"),
            (_cells(d) for d in found),
            left=3,
        )
    return 1 if names and not all(d["works"] for d in found) else 0


def _described(name: str) -> dict[str, Any]:
    try:
        with open_device(name) as session:
            info = session.info
    except DeviceError as error:
        return {"device": name, "works": False, "why": str(error)}
    return {
        "device": name,
        "works": True,
        "target": _target(name),
        "arch": info.arch,
        "cores": info.cores,
        "features": sorted(info.features),
        "why": info.description,
    }


def _target(device: str) -> str:
    """What to plan for, to run there."""
    name = target_for(device)
    if name is not None:
        return target(name).name
    return "cortex-a53" if ":" in device else "any aarch64"


def _cells(d: dict[str, Any]) -> tuple[str, ...]:
    works = "yes" if d["works"] else "no"
    return (d["device"], works, d.get("target", ""), str(d.get("cores", "")), d["why"])
