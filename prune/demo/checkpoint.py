"""Checkpoints: a network's state, masks included, and what is known of it, in one file.

The file is safetensors (no pickle); its metadata holds the key of the recipe that made it, and
what was measured.  It is written beside its place and renamed, so a half-written one is never
found.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from jit.files import write_whole
from prune.masking import PruneError, load_state
from refimpl.schemes import SchemeError


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the way out."""


@dataclass(frozen=True)
class Measured:
    """What was measured of a trained network.

    Attributes:
        accuracy: the share of the test clips it names rightly.
        seconds: the wall time its training took.
    """

    accuracy: float
    seconds: float


def save_checkpoint(path: Path, module: nn.Module, key: str, measured: Measured) -> None:
    """Write the module's state and what was measured, under the key of its recipe.

    Raises:
        OSError: the file cannot be written; what was there before is left as it was.
    """
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(state, {"recipe": key, "measured": json.dumps(asdict(measured))}))


def load_checkpoint(path: Path, module: nn.Module, key: str) -> Measured | None:
    """Load the file into the module; None where there is no file, or one of another recipe.

    Raises:
        CheckpointError: the file is damaged or does not fit the module.
    """
    if not path.exists():
        return None
    try:
        state, metadata = _read(path)
        if metadata.get("recipe") != key:
            return None
        _require_finite(state)
        load_state(module, state)
        return _measured(metadata.get("measured", ""))
    except (SafetensorError, PruneError, SchemeError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"The checkpoint {path} is damaged ({error}); delete it to train that network again."
        ) from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _require_finite(state: dict[str, Tensor]) -> None:
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{name} holds values that are not finite")


def _measured(text: str) -> Measured:
    fields = json.loads(text)
    if not isinstance(fields, dict) or set(fields) != {"accuracy", "seconds"}:
        raise ValueError("its record of what was measured is incomplete")
    measured = Measured(**{name: float(value) for name, value in fields.items()})
    if not (0 <= measured.accuracy <= 1 and 0 <= measured.seconds < float("inf")):
        raise ValueError("its record of what was measured is out of range")
    return measured
