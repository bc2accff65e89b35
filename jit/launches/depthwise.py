"""Launches of depthwise convolutions: whole tiles along width, then the ragged rest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jit.kernels.depthwise import DepthwiseKernel
from jit.launches.axes import AXES, corner, row_offset, stride_params
from jit.launches.channelwise import per_slot
from jit.launches.form import Launch, Lowering, launch
from refimpl.plan import Step

_TILE, _UNROLLED = 8, 64
"""The most positions of a tile, and the most products of one row of taps in it."""


def depthwise(to: Lowering, step: Step) -> Iterator[Launch]:
    """One launch, or two where the width is ragged."""
    operands = {"x": to.operand(step.inputs[0]), "y": to.operand(step.name)}
    if step.residual:
        operands["z"] = to.operand(step.residual)
    x, y = operands["x"].place, operands["y"].place
    a, rank = dict(step.attributes), len(y.shape) - 2
    weight = to.plan.constants[step.weight].array
    block, letters = y.layout.block, AXES[3 - rank :]
    slots = y.layout.physical(y.shape)[1] * block
    sizes = {"N": y.shape[0], "C": slots}
    for i, axis in enumerate(letters):
        o, k, s, t = y.shape[2 + i], weight.shape[2 + i], a["stride"][i], a["dilation"][i]
        sizes |= {f"O{axis}": o, f"K{axis}": k, f"S{axis}": s, f"T{axis}": t}
        sizes[f"I{axis}"] = (o - 1) * s + (k - 1) * t + 1
    for letter, operand in operands.items():
        sizes |= stride_params(letter.upper(), operand.place)
    taps = _taps_first(weight, slots)
    sizes["WL"] = taps.size
    tables = {
        "w": to.constants.add(taps),
        "bias": to.constants.add(per_slot(to, step.bias, slots)),
    }
    tile = max(1, min(_TILE, _UNROLLED // weight.shape[-1]))
    whole = sizes["OW"] // tile * tile
    for begin, end, width in ((0, whole, tile), (whole, sizes["OW"], sizes["OW"] - whole)):
        if begin == end:
            continue
        kernel = DepthwiseKernel(
            rank,
            block,
            width,
            taps_w=weight.shape[-1],
            stride_w=a["stride"][-1],
            dilation_w=a["dilation"][-1],
            activation=step.activation,
            residual=bool(step.residual),
            fused=to.target.has("fma"),
            grid=to.target.grid,
        )
        skips = {n: row_offset(o.place, 0, rank, (0, 0, begin)) for n, o in operands.items()}
        skips["x"] = corner(x, a["padding"], sizes, (0, 0, begin))
        here = {n: operand.skip(skips[n]) for n, operand in operands.items()}
        inputs = (end - begin - 1) * sizes["SW"] + (sizes["KW"] - 1) * sizes["TW"] + 1
        yield launch(step, kernel, here, {**sizes, "OW": end - begin, "IW": inputs}, tables)


def _taps_first(weight: np.ndarray, slots: int) -> np.ndarray:
    """[C, 1, *K] as [*K, slots], zeros in the tail lanes."""
    moved = np.moveaxis(weight[:, 0], 0, -1)
    padded = np.zeros((*moved.shape[:-1], slots), np.float32)
    padded[..., : len(weight)] = moved
    return padded
