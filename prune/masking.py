"""Masks on torch modules: set, read, kept through training and files, and baked in.

A mask is a parametrisation of a layer's weight (`torch.nn.utils.parametrize`): the layer computes
with the masked weight, the optimiser holds the full one, and a pruned entry gets no gradient.  So
masks survive training loops, `deepcopy`, `torch.compile` and `state_dict`, which carries the mask
and the scheme's text as plain tensors (no pickle).

Layers are named as in `named_modules()`; weights as in `named_parameters()` of the dense module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from refimpl.schemes import Scheme, SchemeError, scheme_from_text

PrunableLayer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
PRUNABLE: tuple[type[PrunableLayer], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Layers whose weight is (filters, channels, *kernel) and can carry a mask."""

_KEPT = "parametrizations.weight.0.kept"
_SCHEME = "parametrizations.weight.0._extra_state"
_LONGEST_TEXT = 256  # bytes of a scheme's text in a state dict: a bound on untrusted data


class PruneError(SchemeError):
    """A request that cannot be met; the message names the layer and the way out."""


class Mask(nn.Module):
    """The parametrisation: weight -> weight where kept, exactly 0 elsewhere.

    Attributes:
        kept: bool buffer of the weight's shape, True = kept.
        scheme: the scheme the mask obeys.
        parts: equal parts of the filters that no block straddles (the convolution's groups).
    """

    kept: Tensor

    def __init__(self, scheme: Scheme, kept: Tensor, parts: int) -> None:
        super().__init__()
        self.scheme, self.parts = scheme, parts
        self.register_buffer("kept", kept)

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight; a selection, not a product, so that even inf and NaN leave."""
        return torch.where(self.kept, weight, 0)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What assigning to the layer's weight stores: the value as it is."""
        return weight

    def get_extra_state(self) -> Tensor:
        """The scheme's text as uint8 bytes, so that safetensors can hold the state dict."""
        return torch.tensor(list(str(self.scheme).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the scheme that a state dict carries."""
        self.scheme = _scheme_of(state)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Load as any module does, but refuse a mask that breaks the scheme beside it."""
        *_, error_messages = rest
        kept, text = state_dict.get(f"{prefix}kept"), state_dict.get(f"{prefix}_extra_state")
        if kept is not None and text is not None:
            try:
                reason = _scheme_of(text).legal(kept.cpu().numpy(), parts=self.parts)
            except SchemeError as error:
                reason = str(error)
            if reason is not None:
                layer = prefix.removesuffix("parametrizations.weight.0.").removesuffix(".")
                error_messages.append(f"The mask of layer {layer!r} is not legal: {reason}")
                return
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[arg-type]


def set_masks(module: nn.Module, masks: Mapping[str, tuple[Scheme, np.ndarray]]) -> None:
    """Put masks on layers, in place of those they carry: layer name -> (scheme, bool mask).

    All are checked before the first is set.

    Raises:
        PruneError: a name is no prunable layer's (the message lists those that are), a mask has
            another shape than its weight, or breaks its scheme.
    """
    layers = {name: prunable_layer(module, name) for name in masks}
    for name, (scheme, mask) in masks.items():
        weight = layers[name].weight
        if mask.shape != tuple(weight.shape):
            raise PruneError(
                f"The mask of layer {name!r} has the shape {mask.shape}; its weight has "
                f"{tuple(weight.shape)}."
            )
        reason = scheme.legal(mask, parts=filter_parts(layers[name]))
        if reason is not None:
            raise PruneError(f"The mask of layer {name!r} is not legal: {reason}")
    for name, (scheme, mask) in masks.items():
        _set_mask(layers[name], scheme, mask)


def _set_mask(layer: PrunableLayer, scheme: Scheme, mask: np.ndarray) -> None:
    current = mask_of(layer)
    if current is not None:
        current.scheme = scheme
        current.kept.copy_(torch.from_numpy(mask))
        return
    weight = layer.weight.detach()
    # empty_like keeps the weight's device and memory format (channels last stays so).
    kept = torch.empty_like(weight, dtype=torch.bool).copy_(torch.from_numpy(mask))
    new = Mask(scheme, kept, filter_parts(layer))
    parametrize.register_parametrization(layer, "weight", new)


def masks(module: nn.Module) -> dict[str, tuple[Scheme, np.ndarray]]:
    """The masks a module carries: weight name (`"conv2.weight"`) -> (scheme, bool mask)."""
    return {
        _weight_name(name): (mask.scheme, mask.kept.cpu().numpy().copy())
        for name, _, mask in _masked(module)
    }


def remove(module: nn.Module) -> None:
    """Take all masks off and leave their zeros in the weights; the module is plain again."""
    for _, layer, _ in list(_masked(module)):
        # torch deletes the masked weight's property from the layer's class, which it made for the
        # layer but which deepcopies share; a class of its own leaves the copies whole.
        shared = type(layer)
        layer.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))  # type: ignore[assignment]
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict with the masks in it; `module` may be dense or masked as yet.

    Raises:
        PruneError: a mask in it breaks its scheme, or is for a layer the module does not have.
        RuntimeError: the other tensors do not fit, in torch's words.
    """
    found = {}
    for key in state:
        if key.endswith(_KEPT):
            prefix = key.removesuffix(_KEPT)
            name = prefix.removesuffix(".")
            if prefix + _SCHEME not in state:
                raise PruneError(f"The state dict has a mask for layer {name!r} but no scheme.")
            scheme = _scheme_of(state[prefix + _SCHEME])
            found[name] = scheme, state[key].cpu().numpy()
    set_masks(module, found)
    module.load_state_dict(state)


def prunable(module: nn.Module) -> list[str]:
    """The names of the layers that can carry a mask."""
    return [name for name, layer in module.named_modules() if isinstance(layer, PRUNABLE)]


def prunable_layer(module: nn.Module, name: str) -> PrunableLayer:
    """The layer of that name.

    Raises:
        PruneError: there is none, it cannot carry a mask, or its weight is parametrised otherwise.
    """
    layer = dict(module.named_modules()).get(name)
    kinds = ", ".join(kind.__name__ for kind in PRUNABLE)
    names = ", ".join(map(repr, prunable(module))) or "none"
    if layer is None:
        raise PruneError(f"There is no layer {name!r}; layers that can be pruned: {names}.")
    if not isinstance(layer, PRUNABLE):
        raise PruneError(
            f"Layer {name!r} is a {type(layer).__name__}; masks go on {kinds}. Layers that can "
            f"be pruned: {names}."
        )
    if parametrize.is_parametrized(layer, "weight") and mask_of(layer) is None:
        raise PruneError(
            f"The weight of layer {name!r} already has a parametrisation that is not a mask; "
            "remove it first (torch.nn.utils.parametrize.remove_parametrizations)."
        )
    return layer


def mask_of(layer: nn.Module) -> Mask | None:
    """The mask on a layer's weight, or None."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    first, *others = layer.parametrizations["weight"]  # type: ignore[index]
    return first if isinstance(first, Mask) and not others else None


def filter_parts(layer: PrunableLayer) -> int:
    """The equal parts of a layer's filters that no block may straddle."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def full_weight(layer: PrunableLayer) -> Tensor:
    """The weight without its mask: what pruned entries were when they left."""
    if mask_of(layer) is None:
        return layer.weight
    return layer.parametrizations["weight"].original  # type: ignore[index, union-attr]


def _masked(module: nn.Module) -> Iterator[tuple[str, nn.Module, Mask]]:
    for name, layer in module.named_modules():
        mask = mask_of(layer)
        if mask is not None:
            yield name, layer, mask


def _weight_name(layer: str) -> str:
    return f"{layer}.weight" if layer else "weight"


def _scheme_of(state: Tensor) -> Scheme:
    if state.dtype != torch.uint8 or state.dim() != 1 or len(state) > _LONGEST_TEXT:
        raise SchemeError("A scheme in a state dict must be a short text in uint8 bytes.")
    return scheme_from_text(bytes(state.tolist()).decode("ascii", errors="replace"))
