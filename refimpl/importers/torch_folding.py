"""What of a torch module depends on no input, computed at capture by torch itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from refimpl.importers.exported import Step


class TorchFolder:
    """Computes with torch itself what depends on no input."""

    def knows(self, target: str) -> bool:
        """Every operator but those that draw at random."""
        found = _operator(target)
        return found is not None and torch.Tag.nondeterministic_seeded not in found.tags

    def fold(self, step: Step, arguments: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The results of a call, its tensors given as arrays."""
        found = _operator(step.target)
        assert found is not None, "only known operators are folded"
        given = {name: _to_torch(value, found, name) for name, value in arguments.items()}
        with torch.no_grad():
            results = found(**given)
        several = results if isinstance(results, (tuple, list)) else (results,)
        return [result.detach().cpu().numpy() for result in several if result is not None]


def _operator(target: str) -> Any:
    """torch's operator of this name, or None."""
    found: Any = torch.ops
    for part in target.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, torch._ops.OpOverload) else None


def _to_torch(value: Any, of: Any, name: str) -> Any:
    """An argument of an operator as torch takes it."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
    if isinstance(value, list):
        return [_to_torch(item, of, name) for item in value]
    kinds = {argument.name: str(argument.type) for argument in of._schema.arguments}
    # A dtype is an int in the schema and a name here.
    if isinstance(value, str) and hasattr(torch, value) and "str" not in kinds[name]:
        return getattr(torch, value)
    return value
