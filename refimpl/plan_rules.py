"""What every step must fulfil for its kernels to stay inside memory, whoever made the Plan.

The planner obeys these rules by construction; a Plan from a file need not.  Kernels trust their
arguments, so a wrong shape or column here would be a wild write there.
"""

from __future__ import annotations

from math import prod

import numpy as np

from refimpl.graph import Shape
from refimpl.layout import LayoutError
from refimpl.ops import OPERATORS, ShapeError
from refimpl.plan import Place, Plan, PlanError, Step
from refimpl.tiles import Tile

LARGEST_VALUE = 2**40
"""Elements of one value, and bytes of the arena."""
_MOST_SUMS = 256  # accumulators of a tile: no machine has as many registers
_WIDEST = 64  # lanes of a vector, channels of a block, columns of a run

_ELEMENTWISE = ("add", "sub", "mul", "activation", "affine")


def check_rules(plan: Plan) -> None:
    """Raise PlanError, naming the step or value, unless every kernel would stay inside memory."""
    _require(0 <= plan.arena_bytes <= LARGEST_VALUE, plan.name, "the arena has an absurd size")
    _require(1 <= plan.threads <= 1024, plan.name, f"{plan.threads} threads")
    for name, place in plan.places.items():
        _check_place(name, place)
    for name in plan.inputs:
        place = _place(plan, name)
        plain = place.segment == "input" and place.nbytes == 4 * prod(place.shape)
        _require(plain, name, "an input does not lie plain in its segment")
    _require(set(plan.outputs) <= {s.name for s in plan.steps}, plan.name, "an output is no step's")
    for step in plan.steps:
        _check_result(plan, step)
        _check_blocks(plan, step)
        _check_activation(step)
        if step.op == "conv":
            _check_packed(plan, step)


def _require(condition: bool, name: str, rule: str) -> None:
    if not condition:
        raise PlanError(f"{name}: {rule}")


def _place(plan: Plan, name: str) -> Place:
    _require(name in plan.places, name, "the value has no place")
    return plan.places[name]


def _check_place(name: str, place: Place) -> None:
    sizes = (*place.shape, place.layout.block, *(m for pair in place.layout.halo for m in pair))
    _require(2 <= len(place.shape) <= 5 and min(place.shape) >= 1, name, f"shape {place.shape}")
    _require(place.layout.block <= _WIDEST and max(sizes) < 2**31, name, "an absurd size")
    try:
        elements = place.layout.size(place.shape)
    except LayoutError as error:
        raise PlanError(f"{name}: {error}") from error
    _require(elements <= LARGEST_VALUE, name, "more than 2^40 elements")
    _require(place.segment == "arena" or place.offset == 0, name, "an offset outside the arena")


# -- shapes ------------------------------------------------------------------------------------


def _check_result(plan: Plan, step: Step) -> None:
    """The step's place has the shape that its operator makes of its inputs."""
    shapes = [_place(plan, name).shape for name in step.inputs]
    _require(len(shapes) >= 1, step.name, "it has no input")
    found = _place(plan, step.name).shape
    if step.op == "relayout":
        same = shapes[0][0] == found[0] and prod(shapes[0]) == prod(found)
        regular = shapes[0] == found or 2 in (len(shapes[0]), len(found))
        bare = not (step.residual or step.activation) and len(shapes) == 1
        _require(same and regular and bare, step.name, f"a relayout of {shapes} to {found}")
        return
    wanted = _result(plan, step, shapes)
    covered = step.op == "conv" and len(found) == 2 and found == wanted[:2]
    fits = found == wanted or (covered and prod(wanted[2:]) == 1)
    _require(fits, step.name, f"has the shape {found} instead of {wanted}")


def _result(plan: Plan, step: Step, shapes: list[Shape]) -> Shape:
    attributes = dict(step.attributes)
    if step.op in _ELEMENTWISE:
        count = 2 if step.op in ("add", "sub", "mul") else 1
        _require(shapes == shapes[:1] * count, step.name, f"{step.op} of {shapes}")
        if step.op == "affine":
            _check_affine(plan, step, shapes[0][1])
        return shapes[0]
    operator = OPERATORS.get(step.op)
    if step.op == "conv":
        _require(step.weight in plan.weights, step.name, "its weight is missing")
        shapes = [*shapes, plan.weights[step.weight].shape]
        sound = len(shapes) == 2 and len(shapes[1]) >= 2 and min(shapes[1]) >= 1
        _require(sound, step.name, f"a convolution of {shapes}")
        if len(shapes[0]) == 2:
            operator, attributes = OPERATORS["linear"], {}
        else:
            attributes["groups"] = 1
    if operator is None:
        raise PlanError(f"{step.name}: no operation {step.op!r}")
    least, most = operator.arity
    _require(least <= len(shapes) <= (most or least), step.name, f"{step.op} of {shapes}")
    kinds = operator.attributes
    sound = attributes.keys() == kinds.keys() and all(
        kinds[n].accepts(attributes[n]) for n in kinds
    )
    _require(sound, step.name, f"attributes {attributes} are not those of {step.op}")
    if step.op == "softmax":
        _require(len(shapes[0]) == 2 and attributes["axis"] == 1, step.name, f"softmax of {shapes}")
    try:
        return operator.shape(shapes, attributes)
    except ShapeError as error:
        raise PlanError(f"{step.name}: {error}") from error


def _check_affine(plan: Plan, step: Step, channels: int) -> None:
    for name in (step.weight, step.bias):
        constant = plan.constants.get(name)
        fits = constant is not None and constant.array.shape == (channels,)
        _require(fits, step.name, f"{name!r} is not one value for each of {channels} channels")


def _check_activation(step: Step) -> None:
    if step.activation is None:
        _require(step.op != "activation", step.name, "names no activation")
        return
    name, numbers = step.activation
    operator = OPERATORS.get(name)
    fits = operator is not None and len(numbers) == len(operator.attributes)
    _require(
        fits and name != "gelu", step.name, f"no activation {name!r} of {len(numbers)} numbers"
    )


# -- layouts and packing -----------------------------------------------------------------------


def _check_blocks(plan: Plan, step: Step) -> None:
    """Values that one vector walks over together have the same channels per block."""
    if step.op in ("relayout", "softmax"):
        return
    block = plan.places[step.name].layout.block
    if step.residual:
        other = _place(plan, step.residual)
        same = other.layout.block == block and other.shape == plan.places[step.name].shape
        _require(same, step.name, "the residual lies in another layout")
    if step.op != "conv":
        same = all(plan.places[name].layout.block == block for name in step.inputs)
        _require(same, step.name, "an input lies in other blocks than the result")


def _check_packed(plan: Plan, step: Step) -> None:
    """Strips are consecutive filters in whole vectors; columns are runs inside a block."""
    s, weight = step.schedule, plan.weights[step.weight]
    if s is None:
        raise PlanError(f"{step.name}: has no schedule")
    sizes = (s.rows, s.lanes, *s.tile, s.run, s.channel_block)
    _require(min(sizes) >= 1 and s.lanes <= _WIDEST and s.run <= _WIDEST, step.name, f"{s}")
    sums = s.rows // s.lanes * prod(s.tile)
    _require(s.rows % s.lanes == 0 and sums <= _MOST_SUMS, step.name, f"unsound {s}")
    block = plan.places[step.name].layout.block
    _require(block % s.lanes == 0, step.name, f"vectors of {s.lanes} in blocks of {block}")
    row = 0
    for strip in weight.strips:
        _require(len(strip) == 1, step.name, f"a strip holds {len(strip)} tiles, not one")
        height = _check_strip_rows(step, strip[0], row, weight.shape[0])
        _check_columns(plan, step, strip[0])
        row += height
    _require(
        row == -(-weight.shape[0] // s.lanes) * s.lanes,
        step.name,
        f"its strips hold {row} rows, it has {weight.shape[0]} filters",
    )


def _check_strip_rows(step: Step, tile: Tile, row: int, filters: int) -> int:
    s, height = step.schedule, tile.rows.size
    assert s is not None
    ids = np.arange(row, row + height)
    fits = 1 <= height <= s.rows and height % s.lanes == 0
    _require(
        fits and np.array_equal(tile.rows, np.where(ids < filters, ids, -1)),
        step.name,
        f"the strip at row {row} is not one of consecutive filters in vectors of {s.lanes}",
    )
    return height


def _check_columns(plan: Plan, step: Step, tile: Tile) -> None:
    s, shape = step.schedule, plan.weights[step.weight].shape
    assert s is not None
    columns = tile.columns.astype(np.int64)
    if columns.size == 0:
        return
    inside = columns.min() >= 0 and columns.max() < prod(shape[1:])
    _require(
        inside and np.unique(columns).size == columns.size,
        step.name,
        "a column is out of range or stored twice",
    )
    kernel, block = prod(shape[2:]), plan.places[step.inputs[0]].layout.block
    _require(columns.size % s.run == 0, step.name, f"its columns are not runs of {s.run}")
    runs = columns.reshape(-1, s.run)
    channel = runs[:, 0] // kernel
    steady = np.array_equal(runs, runs[:, :1] + kernel * np.arange(s.run))
    whole = s.run == 1 or (steady and bool(np.all(channel % block + s.run <= block)))
    _require(whole, step.name, f"its columns are not runs of {s.run} neighbouring channels")
    _require(
        bool(np.all(np.diff(channel // s.channel_block) >= 0)),
        step.name,
        "its columns are not ordered by block of channels",
    )
