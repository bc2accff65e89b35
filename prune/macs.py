"""Multiply-accumulates per layer, dense and kept, and what keep rate meets a budget of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from prune.masking import PRUNABLE, PrunableLayer, PruneError, mask_of


@dataclass(frozen=True)
class LayerMacs:
    """MACs of one layer over the example: as a dense layer, and with its mask."""

    name: str
    dense: int
    kept: int


@dataclass(frozen=True)
class MacReport:
    """MACs of the convolution and linear layers that ran on an example, in the order they ran."""

    layers: tuple[LayerMacs, ...]

    @property
    def dense(self) -> int:
        """MACs without masks."""
        return sum(layer.dense for layer in self.layers)

    @property
    def kept(self) -> int:
        """MACs with masks."""
        return sum(layer.kept for layer in self.layers)

    @property
    def compression(self) -> float:
        """Dense over kept MACs."""
        return self.dense / self.kept

    def __str__(self) -> str:
        rows = [*self.layers, LayerMacs("all", self.dense, self.kept)]
        width = max(len(row.name) for row in rows)
        return "\n".join(
            f"{row.name:{width}}  {row.dense / 1e6:10.2f} MMAC  kept {row.kept / 1e6:10.2f} MMAC"
            f"  {row.dense / row.kept if row.kept else float('inf'):6.2f}x"
            for row in rows
        )


def macs(module: nn.Module, *example: Tensor) -> MacReport:
    """Run the module once on the example inputs and count (batch included).

    Counted are the layers that can carry a mask (1-D to 3-D convolutions and linear layers); a
    layer that runs twice counts twice.

    Raises:
        PruneError: no such layer ran.
    """
    counts: dict[str, list[int]] = {}

    def record(name: str, layer: PrunableLayer, _: object, output: Tensor) -> None:
        weight = layer.weight
        mask = mask_of(layer)
        positions = output.numel() // weight.shape[0]
        kept = weight.numel() if mask is None else int(mask.kept.sum())
        total = counts.setdefault(name, [0, 0])
        total[0] += weight.numel() * positions
        total[1] += kept * positions

    hooks = [
        layer.register_forward_hook(partial(record, name))
        for name, layer in module.named_modules()
        if isinstance(layer, PRUNABLE)
    ]
    try:
        with evaluating(module), torch.no_grad():
            module(*example)
    finally:
        for hook in hooks:
            hook.remove()
    if not counts:
        raise PruneError("No convolution or linear layer ran on the example, so no MACs to count.")
    return MacReport(tuple(LayerMacs(name, *count) for name, count in counts.items()))


def uniform_keep(report: MacReport, layers: Collection[str], compression: float) -> float:
    """The share to keep in each of `layers` so that the whole has 1/compression of its dense MACs.

    The other layers stay dense and are paid for by these.

    Raises:
        PruneError: a layer is not in the report, or the others alone exceed the budget.
    """
    dense = {layer.name: layer.dense for layer in report.layers}
    for name in layers:
        if name not in dense:
            raise PruneError(f"No layer {name!r} ran; those that ran: {', '.join(dense)}.")
    pruned = sum(dense[name] for name in layers)
    left = report.dense / compression - (report.dense - pruned)
    if left <= 0:
        raise PruneError(
            f"{compression:g}x fewer MACs cannot be had from {', '.join(layers)}: the other "
            f"layers alone leave {report.dense / (report.dense - pruned):.2f}x at most."
        )
    return min(left / pruned, 1.0)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; each submodule's own mode is restored after it."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
