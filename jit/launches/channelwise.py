"""Launches of kernels that treat channels alike, in whatever blocks; and of zeros around values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from jit.kernels.channelwise import ElementKernel, HaloKernel, PoolKernel
from jit.launches.axes import AXES, stride_params
from jit.launches.form import Launch, Lowering, Operand, launch
from jit.launches.relayout import fills_blocks
from refimpl.layout import walks_in_blocks
from refimpl.plan import CHANNELWISE, CONVOLUTIONS, ELEMENTWISE, Step


def margins(to: Lowering, step: Step) -> Iterator[Launch]:
    """Zero what the step's own kernels leave: the halo, slab by slab, and tail lanes."""
    y = to.operand(step.name)
    layout, shape = y.place.layout, y.place.shape
    if layout.block == 1 and not any(lo or hi for lo, hi in layout.halo):
        return
    memory, origin = layout.physical(shape), layout.origin(shape)
    if written_slots(to, step) < memory[1] * layout.block:
        tail = (memory[1] - 1) * layout.strides(shape)[1]
        yield zeros(to, step, y.skip(tail - origin), {"C": layout.block})
    letters = AXES[5 - len(shape) :]
    strides = layout.strides(shape)[2:]
    for axis, (lo, hi) in enumerate(layout.halo):
        for depth, begin in ((lo, 0), (hi, memory[2 + axis] - hi)):
            if depth:
                slab = y.skip(begin * strides[axis] - origin)
                yield zeros(to, step, slab, {f"O{letters[axis]}": depth})


def written_slots(to: Lowering, step: Step) -> int:
    """Channel slots that the step's kernels write at every position."""
    place = to.place(step.name)
    if step.schedule is not None and not step.schedule.over_filters:
        return place.shape[1]
    if step.op in CONVOLUTIONS:
        return sum(strip[0].rows.size for strip in to.plan.weights[step.weight].strips)
    if step.op in CHANNELWISE or in_blocks(to, step) or fills_blocks(to, step):
        return place.layout.physical(place.shape)[1] * place.layout.block
    return place.shape[1]


def in_blocks(to: Lowering, step: Step) -> bool:
    """Whether an elementwise step walks over blocks of channels, whole vectors at a time."""
    if step.op not in ELEMENTWISE:
        return False
    y, *x = (to.place(name) for name in (step.name, *step.inputs))
    if y.layout.block == 1 or any(p.layout.block != y.layout.block for p in x):
        return False
    return walks_in_blocks(y.shape, [p.shape for p in x])


def zeros(to: Lowering, step: Step, y: Operand, box: Mapping[str, int]) -> Launch:
    """Zero a box of the value's memory, from where the operand begins."""
    memory, block = y.place.layout.physical(y.place.shape), y.place.layout.block
    sizes = {"N": memory[0], "C": memory[1] * block}
    letters = AXES[max(5 - len(y.place.shape), 0) :] if len(y.place.shape) > 2 else ""
    sizes |= {f"O{a}": e for a, e in zip(letters, memory[2:-1], strict=True)}
    sizes |= {**box, **stride_params("Y", y.place)}
    return launch(step, HaloKernel(len(letters), block, to.target.grid), {"y": y}, sizes)


def _sizes(to: Lowering, step: Step, operands: Mapping[str, Operand]) -> dict[str, int]:
    """Extents of the step's value in whole vectors of channels, and every operand's strides."""
    y = to.place(step.name)
    memory, rank = y.layout.physical(y.shape), len(y.shape) - 2
    sizes = {"N": y.shape[0], "C": memory[1] * y.layout.block}
    sizes |= {f"O{a}": e for a, e in zip(AXES[3 - rank :], y.shape[2:], strict=True)}
    for letter, operand in operands.items():
        sizes |= stride_params(letter.upper(), operand.place)
    return sizes


def element(to: Lowering, step: Step) -> Iterator[Launch]:
    """An elementwise operator, or an affine, of values in blocks."""
    y = to.place(step.name)
    names = dict(zip("xz", step.inputs, strict=False)) | {"y": step.name}
    operands = {letter: to.operand(name) for letter, name in names.items()}
    sizes, tables = _sizes(to, step, operands), {}
    if step.op == "affine":
        for buffer, name in (("scale", step.weight), ("shift", step.bias)):
            tables[buffer] = to.constants.add(per_slot(to, name, sizes["C"]))
    spread = "z" in operands and operands["z"].place.shape != y.shape
    if spread:
        sizes |= _spread_strides(operands["z"], y.shape)
    kernel = ElementKernel(
        len(y.shape) - 2,
        y.layout.block,
        step.op,  # type: ignore[arg-type]
        step.activation,
        to.target.has("fma"),
        broadcast=spread,
        grid=to.target.grid,
    )
    yield launch(step, kernel, operands, sizes, tables)


def _spread_strides(z: Operand, shape: tuple[int, ...]) -> dict[str, int]:
    """Strides of z beside a value of that shape: 0 along the axes where it has one position."""
    strides = z.place.layout.strides(z.place.shape)
    found = zip(strides, z.place.shape, shape, strict=True)
    kept = [0 if have != wanted else stride for stride, have, wanted in found]
    return {f"Z{a}": s for a, s in zip(["N", "C", *AXES[5 - len(shape) :]], kept, strict=True)}


def per_slot(to: Lowering, constant: str, slots: int) -> np.ndarray:
    """A constant per channel, with zeros for the tail lanes."""
    array = to.plan.constants[constant].array
    padded = np.zeros(slots, np.float32)
    padded[: array.size] = array
    return padded


def pool(to: Lowering, step: Step) -> Iterator[Launch]:
    """A maximum or average over windows."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    attributes = dict(step.attributes)
    operands = {"x": x, "y": y}
    sizes = _sizes(to, step, operands)
    letters = AXES[5 - len(x.place.shape) :]
    sizes |= {f"I{a}": e for a, e in zip(letters, x.place.shape[2:], strict=True)}
    if "kernel" in attributes:
        for i, a in enumerate(letters):
            lo, hi = attributes["padding"][i]
            numbers = (attributes["kernel"][i], attributes["stride"][i], lo, hi)
            sizes |= {f"{letter}{a}": n for letter, n in zip("KSPQ", numbers, strict=True)}
    maximum = step.op.endswith("max_pool")
    divisor = "none" if maximum else "window"
    if attributes.get("count_include_pad"):
        divisor = "padded_window"
    kernel = PoolKernel(
        len(letters),
        y.place.layout.block,
        "maximum" if maximum else "add",
        "kernel" not in attributes,
        divisor,  # type: ignore[arg-type]
        to.target.grid,
    )
    yield launch(step, kernel, operands, sizes)
