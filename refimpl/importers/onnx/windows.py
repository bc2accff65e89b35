"""ONNX's words for sliding windows, shared by convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

from refimpl.importers.onnx.call import Call
from refimpl.ops import Shape

Padding = tuple[tuple[int, int], ...]


def per_axis(call: Call, name: str, rank: int, default: int) -> Shape:
    """An attribute of one int for each of `rank` spatial axes."""
    values = call.attribute(name, (default,) * rank)
    call.require(len(values) == rank, f"{name} {values} is not one int for each of {rank} axes")
    return values


def explicit_padding(call: Call, rank: int) -> Padding:
    """`pads`: all low sides, then all high sides."""
    pads = call.attribute("pads", (0,) * 2 * rank)
    call.require(len(pads) == 2 * rank, f"pads {pads} are not two ints for each of {rank} axes")
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def automatic(call: Call) -> str:
    """`auto_pad`: "NOTSET", "VALID", "SAME_UPPER" or "SAME_LOWER"; with pads only "NOTSET"."""
    kind = call.attribute("auto_pad", "NOTSET")
    call.require(
        kind in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"), f"auto_pad={kind!r} is unknown"
    )
    if kind != "NOTSET" and any(call.attribute("pads", ())):
        call.refuse(f"auto_pad={kind} and pads contradict one another")
    return kind


def window_padding(
    call: Call, spatial: Shape, kernel: Shape, stride: Shape, dilation: Shape
) -> Padding:
    """The padding of windows over an input; with "SAME_*", out = ceil(S / stride)."""
    kind = automatic(call)
    if not kind.startswith("SAME"):
        return explicit_padding(call, len(spatial))
    call.require(min((*stride, *dilation)) > 0, "strides and dilations must be 1 or more")
    axes = zip(spatial, kernel, stride, dilation, strict=True)
    totals = [max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0) for size, k, s, d in axes]
    return split_evenly(totals, kind)


def split_evenly(totals: Sequence[int], kind: str) -> Padding:
    """Padding in all, halved; the odd one at the high side for "SAME_UPPER", else at the low."""
    if kind == "SAME_UPPER":
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((total - total // 2, total // 2) for total in totals)
