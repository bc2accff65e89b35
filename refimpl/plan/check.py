"""The checker of Plans: what must hold for every kernel to stay inside memory, whoever made it.

The planner obeys these rules by construction; a Plan from a file need not.  Kernels trust their
arguments, so a wrong shape or column here would be a wild write there.
"""

from __future__ import annotations

from math import inf, prod

from refimpl.graph import Shape
from refimpl.layout import LayoutError, walks_in_blocks
from refimpl.ops import OPERATORS, ShapeError
from refimpl.ops.activations import ACTIVATIONS
from refimpl.ops.arithmetic import ARITHMETIC
from refimpl.plan.form import (
    ALIGNMENT,
    CHANNELWISE,
    CONVOLUTIONS,
    ELEMENTWISE,
    MOST_THREADS,
    STEP_OPS,
    WIDEST,
    Place,
    Plan,
    PlanError,
    Step,
    lifetimes,
    require,
)
from refimpl.plan.packing import check_packed
from refimpl.plan.recurrence import KINDS, States
from refimpl.plan.turned import own_scratch
from refimpl.plan.winograd import check_winograd

LARGEST_VALUE = 2**40
"""Elements of one value, and bytes of the arena."""
DEEPEST = 8
"""Axes of a value."""
_SEGMENTS = ("input", "output", "arena", "constant")
_ACTIVATED = (*CONVOLUTIONS, "depthwise", "affine", *ELEMENTWISE)
_ACTIVATIONS = {o.name: o for o in (*ACTIVATIONS, *ARITHMETIC) if o.arity == (1, 1)}


def check(plan: Plan) -> None:
    """Return if the Plan is well-formed and every kernel would stay inside memory.

    Raises:
        PlanError: naming the step or value, and the rule that it breaks.
    """
    require(0 <= plan.arena_bytes <= LARGEST_VALUE, plan.name, "the arena has an absurd size")
    require(1 <= plan.threads <= MOST_THREADS, plan.name, f"{plan.threads} threads")
    for name, place in plan.places.items():
        _check_place(plan, name, place)
    for name in plan.inputs:
        place = _place(plan, name)
        is_plain = place.segment == "input" and place.nbytes == 4 * prod(place.shape)
        require(is_plain, name, "an input does not lie plain in its segment")
    known = {*plan.inputs, *(n for n, p in plan.places.items() if p.segment == "constant")}
    for step in plan.steps:
        _check_order(plan, step, known)
        fits = 1 <= step.tasks <= plan.threads
        require(fits, step.name, f"{step.tasks} tasks for {plan.threads} threads")
        told = (step.rounding, *(seconds for _, seconds in step.choice.seconds))
        require(all(0 <= n < inf for n in told), step.name, "a measure that is none")
        _check_step(plan, step)
        known.add(step.name)
    computed = {step.name for step in plan.steps}
    for name in plan.outputs:
        require(name in computed, name, "the output is never computed")
    _check_arena(plan)


def _place(plan: Plan, name: str) -> Place:
    require(name in plan.places, name, "the value has no place")
    return plan.places[name]


def _check_place(plan: Plan, name: str, place: Place) -> None:
    require(place.segment in _SEGMENTS, name, f"no segment {place.segment!r}")
    require(place.dtype in ("f32", "i32"), name, f"no type {place.dtype!r}")
    sizes = (*place.shape, place.layout.block, *(m for pair in place.layout.halo for m in pair))
    sound = len(place.shape) <= DEEPEST and min(place.shape, default=1) >= 1
    require(sound, name, f"shape {place.shape}")
    require(place.layout.block <= WIDEST and max(sizes) < 2**31, name, "an absurd size")
    try:
        elements = place.layout.size(place.shape)
    except LayoutError as error:
        raise PlanError(f"{name}: {error}") from error
    require(elements <= LARGEST_VALUE, name, "more than 2^40 elements")
    if place.segment != "arena":
        require(place.offset == 0, name, "an offset outside the arena")
    else:
        require(place.offset % ALIGNMENT == 0, name, f"not aligned to {ALIGNMENT} bytes")
        inside = 0 <= place.offset <= plan.arena_bytes - place.nbytes
        require(inside, name, "lies outside the arena")
    if place.segment == "constant":
        constant = plan.constants.get(name)
        fits = constant is not None and constant.array.shape == place.shape
        require(fits, name, f"the constant is not there, or not of shape {place.shape}")


def _check_order(plan: Plan, step: Step, known: set[str]) -> None:
    require(step.op in STEP_OPS, step.name, f"no operation {step.op!r}")
    require(step.name not in known, step.name, "is computed twice")
    require(len(step.inputs) >= 1, step.name, "it has no input")
    for name in step.reads:
        require(name in known, step.name, f"reads {name}, which is not computed before")
    segment = _place(plan, step.name).segment
    require(segment in ("arena", "output"), step.name, f"writes to the segment {segment}")
    for name in step.scratch:
        require(_place(plan, name).segment == "arena", name, "is scratch outside the arena")
        require(name not in known, name, "is a value and scratch")


def _check_step(plan: Plan, step: Step) -> None:
    """The step's place has the shape and layout that its operation makes of its inputs."""
    shapes = [_place(plan, name).shape for name in step.inputs]
    found = plan.places[step.name].shape
    _check_types(plan, step)
    _check_activation(step)
    always, tiled = step.op == "winograd_conv", step.winograd is not None
    require(tiled or not always, step.name, f"a {step.op} without tiles")
    require(not tiled or step.op in CONVOLUTIONS, step.name, f"{step.op} has no tiles")
    if step.op not in (*CONVOLUTIONS, "recurrence"):
        require(not step.scratch, step.name, "it needs no scratch")
    match step.op:
        case "relayout":
            _check_relayout(step, shapes, found)
        case "conv" | "winograd_conv":
            _check_conv(plan, step, shapes, found)
        case "depthwise":
            _check_depthwise(plan, step, shapes, found)
        case "recurrence":
            _check_recurrence(plan, step, shapes, found)
        case "affine":
            require(shapes == [found], step.name, f"affine of {shapes} to {found}")
            _check_per_channel(plan, step, (step.weight, step.bias), found)
        case "activation":
            require(shapes == [found], step.name, f"an activation of {shapes} to {found}")
        case _:
            wanted = _result(step, step.op, shapes)
            require(found == wanted, step.name, f"has the shape {found} instead of {wanted}")
    _check_residual(plan, step)
    _check_layout(plan, step)


def _check_types(plan: Plan, step: Step) -> None:
    wanted = ["i32" if step.op == "embedding" else "f32", *["f32"] * len(step.reads)]
    found = [_place(plan, name).dtype for name in step.reads]
    require(found == wanted[: len(found)], step.name, f"{step.op} of values of types {found}")
    require(plan.places[step.name].dtype == "f32", step.name, "its value is not f32")


def _result(step: Step, op: str, shapes: list[Shape], **more: object) -> Shape:
    """What an operator of the Graph makes of the shapes, by its own rules."""
    operator, attributes = OPERATORS[op], {**dict(step.attributes), **more}
    least, most = operator.arity
    right = len(shapes) >= least and (most is None or len(shapes) <= most)
    require(right, step.name, f"{step.op} of {shapes}")
    kinds = operator.attributes
    sound = attributes.keys() == kinds.keys() and all(
        kinds[n].accepts(attributes[n]) for n in kinds
    )
    require(sound, step.name, f"attributes {attributes} are not those of {step.op}")
    try:
        return operator.shape(shapes, attributes)
    except ShapeError as error:
        raise PlanError(f"{step.name}: {error}") from error


def _check_relayout(step: Step, shapes: list[Shape], found: Shape) -> None:
    same = shapes[0] == found
    if len(shapes[0]) >= 2 and len(found) >= 2 and 2 in (len(shapes[0]), len(found)):
        same = shapes[0][0] == found[0] and prod(shapes[0]) == prod(found)
    bare = not (step.residual or step.activation) and len(shapes) == 1
    require(same and bare, step.name, f"a relayout of {shapes} to {found}")


def _check_conv(plan: Plan, step: Step, shapes: list[Shape], found: Shape) -> None:
    require(step.weight in plan.weights, step.name, "its weight is missing")
    weight = plan.weights[step.weight].shape
    sound = len(weight) >= 2 and min(weight) >= 1 and len(shapes) == 1 and len(shapes[0]) >= 2
    require(sound, step.name, f"a convolution of {shapes} with a weight {weight}")
    if step.op == "winograd_conv":
        wanted = _result(step, step.op, [*shapes, weight])
    elif len(shapes[0]) == 2:
        wanted = _linear_result(step, shapes[0], weight)
    else:
        wanted = _result(step, "conv", [*shapes, weight], groups=1)
    covered = len(found) == 2 and found == wanted[:2]
    fits = found == wanted or (covered and prod(wanted[2:]) == 1)
    require(fits, step.name, f"has the shape {found} instead of {wanted}")
    check_packed(step, plan.places[step.inputs[0]], plan.places[step.name], plan)
    _check_halo(plan, step)
    if step.winograd is not None:
        check_winograd(plan, step, step.winograd)


def _linear_result(step: Step, x: Shape, weight: Shape) -> Shape:
    require(len(weight) == 2 and x[1] == weight[1], step.name, f"{x} with a weight {weight}")
    no_axes = all(value == () for _, value in step.attributes)
    require(no_axes, step.name, f"attributes {step.attributes} of axes that it lacks")
    return (x[0], weight[0])


def _check_halo(plan: Plan, step: Step) -> None:
    padding = dict(step.attributes).get("padding", ())
    halo = plan.places[step.inputs[0]].layout.halo
    for (lo, hi), (have_lo, have_hi) in zip(padding, halo, strict=True):
        require(lo <= have_lo and hi <= have_hi, step.name, "the halo is smaller than the padding")


def _check_depthwise(plan: Plan, step: Step, shapes: list[Shape], found: Shape) -> None:
    weight = plan.constants.get(step.weight)
    sound = weight is not None and weight.array.ndim >= 3 and weight.array.shape[1] == 1
    require(sound, step.name, "its weight is missing or not of one channel per filter")
    assert weight is not None
    channels = weight.array.shape[0]
    wanted = _result(step, "conv", [*shapes, weight.array.shape], groups=channels)
    require(found == wanted, step.name, f"has the shape {found} instead of {wanted}")
    _check_per_channel(plan, step, (step.bias,), found)
    _check_halo(plan, step)


def _check_recurrence(plan: Plan, step: Step, shapes: list[Shape], found: Shape) -> None:
    attributes = dict(step.attributes)
    kind, reverse = attributes.get("kind"), attributes.get("reverse")
    sound = kind in KINDS and type(reverse) is bool and len(attributes) == 2
    require(sound, step.name, f"no recurrence has the attributes {attributes}")
    require(step.weight in plan.weights, step.name, "its hidden weight is missing")
    states = 2 if kind == "lstm" else 1
    fits = len(shapes) == 1 + states and all(len(s) == 2 for s in (*shapes, found))
    require(fits, step.name, f"a recurrence of {shapes} to {found}")
    (n, h), (rows, gates) = shapes[1], shapes[0]
    fits = shapes[1:] == [(n, h)] * states and rows % n == 0 and gates == KINDS[str(kind)] * h
    require(fits, step.name, f"a recurrence of {shapes}")
    require(plan.weights[step.weight].shape == (gates, h), step.name, "weight of another shape")
    table = States(str(kind), bool(reverse), rows // n, n)
    require(found == (table.rows, h), step.name, f"has the shape {found}, not {(table.rows, h)}")
    wanted = [(n, gates), (n, h), (n, gates)][: 3 if kind == "gru_reset_first" else 1]
    scratch = [plan.places[name] for name in own_scratch(step)]
    require([p.shape for p in scratch] == wanted, step.name, f"its scratch is not {wanted}")
    state = plan.places[step.name]
    check_packed(step, Place((n, h), state.layout, "arena"), scratch[0], plan)
    same = all(place.layout == state.layout for place in scratch)
    require(same, step.name, "its scratch lies in another layout than the states")


def _check_per_channel(plan: Plan, step: Step, names: tuple[str, ...], y: Shape) -> None:
    for name in names:
        constant = plan.constants.get(name)
        fits = constant is not None and constant.array.shape == y[1:2]
        require(fits, step.name, f"{name!r} is not one value for each of {y[1:2]} channels")


def _check_activation(step: Step) -> None:
    if step.activation is None:
        require(step.op != "activation", step.name, "names no activation")
        return
    require(step.op in _ACTIVATED, step.name, f"{step.op} is followed by no activation")
    name, numbers = step.activation
    operator = _ACTIVATIONS.get(name)
    kinds = tuple(operator.attributes.values()) if operator else ()
    fits = operator is not None and len(numbers) == len(kinds)
    require(fits, step.name, f"no activation {name!r} of {len(numbers)} numbers")
    sound = all(kind.accepts(number) for kind, number in zip(kinds, numbers, strict=True))
    require(sound, step.name, f"the activation {name} takes no {numbers}")


def _check_residual(plan: Plan, step: Step) -> None:
    if step.residual:
        adds = step.op in (*CONVOLUTIONS, "depthwise")
        require(adds, step.name, f"{step.op} adds no residual")
        r, y = _place(plan, step.residual), plan.places[step.name]
        same = r.layout.block == y.layout.block and r.shape == y.shape
        require(same, step.name, "the residual has another shape or layout")


def _check_layout(plan: Plan, step: Step) -> None:
    """Channels that one vector walks over lie in equal blocks; other axes are evenly spaced."""
    places = [plan.places[name] for name in (step.name, *step.inputs)]
    blocked = [place for place in places if len(place.shape) > 2 and place.layout.block > 1]
    if step.op in (*CONVOLUTIONS, "relayout"):
        return
    if step.op in CHANNELWISE or (step.op in ELEMENTWISE and blocked):
        blocks = {place.layout.block for place in places}
        require(len(blocks) == 1, step.name, f"its values lie in blocks of {sorted(blocks)}")
        y, *x = (place.shape for place in places)
        sound = step.op not in ELEMENTWISE or walks_in_blocks(y, x)
        require(sound, step.name, f"{step.op} of {x} in blocks")
        return
    require(not blocked, step.name, f"{step.op} of values in blocks of channels")


def _check_arena(plan: Plan) -> None:
    spans = sorted(lifetimes(plan).items(), key=lambda item: item[1])
    for i, (a, (_, last)) in enumerate(spans):
        for b, (first, _) in spans[i + 1 :]:
            if first > last:
                break
            pa, pb = plan.places[a], plan.places[b]
            apart = pa.offset + pa.nbytes <= pb.offset or pb.offset + pb.nbytes <= pa.offset
            require(apart, a, f"shares memory with {b} while both are needed")
