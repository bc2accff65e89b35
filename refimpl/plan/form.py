"""Plan: a Graph with every decision made and explained, for one target.

    plan   := name, target, threads, inputs, outputs, places, steps, weights, constants, arena size
    place  := value -> shape, layout, segment (input | output | arena | constant), byte offset
    step   := value = OP(values) + residual, activation; how it is scheduled; why

Steps run in order.  Most OPs are operators of `refimpl.ops` and mean the same.  The others:

    conv        also linear layers (no spatial axes, or a kernel that covers the whole input of a
                flatten) and grouped ones, whose weight has absent blocks
    winograd_conv   always tile by tile, its weight the points of transformed kernels
    depthwise   a convolution of one channel per filter
    affine      x*scale + shift per channel: a batch norm that found no convolution to fold into
    activation  the step's activation of its input
    relayout    the same values in another layout or shape
    recurrence  the states of a recurrent layer: `refimpl.plan.recurrence`

Values are float32; inputs that only index an embedding are int32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from refimpl.graph import Attributes, Constant, Shape
from refimpl.layout import Layout
from refimpl.plan.report import show
from refimpl.tiles import Tiles
from refimpl.winograd import points, tile_counts

CONVOLUTIONS = ("conv", "winograd_conv")
"""Operations with a packed weight and positions."""
CHANNELWISE = (
    "max_pool",
    "avg_pool",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "affine",
    "depthwise",
)
"""Operations on channels in blocks, beside `CONVOLUTIONS`."""
ELEMENTWISE = ("add", "sub", "mul", "div", "maximum", "minimum", "prelu", "activation")
"""Operations on elements, in whatever layout they lie."""
PLAIN = (
    "reshape",
    "transpose",
    "slice",
    "concat",
    "pad",
    "expand",
    "take",
    "upsample",
    "softmax",
    "log_softmax",
    "sum",
    "mean",
    "max",
    "min",
    "layer_norm",
    "group_norm",
    "rms_norm",
    "local_response_norm",
    "matmul",
    "embedding",
)
"""Operations on values whose axes are each evenly spaced in memory (no blocks of channels)."""
STEP_OPS = (*CONVOLUTIONS, "recurrence", "relayout", *CHANNELWISE, *ELEMENTWISE, *PLAIN)
ALIGNMENT = 64
"""Bytes to which every value in the arena is aligned."""
WIDEST = 64
"""The most lanes of a vector, channels of a block and columns of a run."""

MOST_THREADS = 256


class PlanError(ValueError):
    """A Plan that breaks a rule, or a Graph that cannot be planned; the message names the node."""


def require(condition: bool, name: str, rule: str) -> None:
    """Raise PlanError with the step's or value's name and the rule unless the condition holds."""
    if not condition:
        raise PlanError(f"{name}: {rule}")


@dataclass(frozen=True)
class Place:
    """Where a value lies: its type (f32 or i32), and `offset` in bytes inside its segment.

    A value in the segment `constant` is the array of that name in the Plan's constants.
    """

    shape: Shape
    layout: Layout
    segment: str
    offset: int = 0
    dtype: str = "f32"

    @property
    def nbytes(self) -> int:
        """Bytes in memory, halo and tail lanes included."""
        return 4 * self.layout.size(self.shape)


@dataclass(frozen=True)
class Schedule:
    """How a convolution is cut.  There are five kinds, told apart by what is not 0 or empty:

    | not 0     | a vector holds | a strip is                   | `tile`         | kernel         |
    |-----------|----------------|------------------------------|----------------|----------------|
    | (none)    | filters        | `rows` neighbouring filters  | rows, columns  | `ConvKernel`   |
    | `panel`   | positions      | any `rows` filters           | 1, positions   | `PanelKernel`  |
    | `strip`   | filters        | `strip` filters, whose tiles | 1, rows of x   | `BlockKernel`  |
    | + turned  | rows of x      | have up to `rows` of them    |                | `BatchKernel`  |
    | `storage` | positions      | one filter with its list     | 1, positions   | `ListedKernel` |

    The kernels, in `jit.kernels`, say what each part means.  `panel` tiles are packed at once;
    `strip` is for products without positions; a `storage` is "csr" or "fkw" of `refimpl.storage`.
    `apart`: what one vector of a strip's filters, or one filter, loads is not shared with the
    others, to see what sharing is worth.
    """

    rows: int
    lanes: int
    tile: tuple[int, int]
    run: int
    channel_block: int
    filters_first: bool
    panel: int = 0
    strip: int = 0
    storage: str = ""
    apart: bool = False
    turned: bool = False

    @property
    def grain(self) -> int:
        """Filters that the height of every strip is a multiple of."""
        return self.rows if self.panel or self.storage else self.lanes

    @property
    def over_filters(self) -> bool:
        """Whether strips are one tile each, their filters in vectors."""
        return not (self.panel or self.strip or self.storage)


@dataclass(frozen=True)
class Winograd:
    """A convolution of stride 1 tile by tile, by the transforms F(m, r) of `refimpl.winograd`.

    What a `conv` computes so is what it means; only the rounding is another.  A `winograd_conv`
    means these tiles.  The step's schedule cuts the product of the filters with the transformed
    tiles.

    Attributes:
        outputs: m along every spatial axis, 1 where the axis stays direct.  The last tile of an
            axis ends where the axis ends, so where m does not divide it two tiles overlap.
        block: images, and tiles along every spatial axis, that are worked on at a time.
    """

    outputs: tuple[int, ...]
    block: tuple[int, ...]

    def __str__(self) -> str:
        return f"F({','.join(map(str, self.outputs))})"


@dataclass(frozen=True)
class Choice:
    """Why a step is done the way it is.

    Attributes:
        winner: the candidate that is taken.
        reason: a sentence.
        candidates: (candidate, predicted cycles), the best first.
        seconds: (candidate, seconds measured on the target), the best first; of those that were.
    """

    winner: str
    reason: str
    candidates: tuple[tuple[str, float], ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()

    @property
    def cycles(self) -> float:
        """Predicted cycles of the winner, 0 where nothing was predicted."""
        return dict(self.candidates).get(self.winner, 0.0)


@dataclass(frozen=True)
class Step:
    """One fused operation and the value it computes.

    `scratch` names values of the arena that hold something only while the step runs; `tasks` is
    into how many shares its kernels are divided at most, `threads` of its Plan or fewer.  A weight
    stored in 16 bits has been changed by `rounding` of the layer's largest at most.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Attributes = ()
    weight: str = ""
    bias: str = ""
    residual: str = ""
    activation: tuple[str, tuple[Any, ...]] | None = None
    schedule: Schedule | None = None
    winograd: Winograd | None = None
    scratch: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    choice: Choice = field(default_factory=lambda: Choice("", ""))
    dense_macs: int = 0
    kept_macs: int = 0
    tasks: int = 1
    rounding: float = 0.0

    @property
    def label(self) -> str:
        """What people know the step by: the first layer of the network that it covers."""
        return self.covers[0] if self.covers else self.name

    @property
    def reads(self) -> tuple[str, ...]:
        """Every value that the step reads."""
        return (*self.inputs, self.residual) if self.residual else self.inputs


@dataclass(frozen=True)
class Plan:
    """A network ready to be lowered for `target`."""

    name: str
    target: str
    threads: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    places: Mapping[str, Place]
    steps: tuple[Step, ...]
    weights: Mapping[str, Tiles]
    constants: Mapping[str, Constant]
    arena_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of packed weights, their lists and the other constants."""
        tiles = sum(t.nbytes for t in self.weights.values())
        return tiles + sum(c.array.nbytes for c in self.constants.values())

    @property
    def liveness_bound(self) -> int:
        """The most bytes of the arena that one step needs: no arena can be smaller."""
        needed = [0] * (len(self.steps) + 1)
        for name, (first, last) in lifetimes(self).items():
            for step in range(first, last + 1):
                needed[step] += self.places[name].nbytes
        return max(needed)

    def __str__(self) -> str:
        """A small report: per step how it is computed, its size and the reason."""
        return show(self)


def output_positions(plan: Plan, step: Step) -> Shape:
    """Output positions along the axes of a convolution; 1 each where its kernel covers all."""
    if step.op == "recurrence":
        return ()
    rank = len(plan.places[step.inputs[0]].shape) - 2
    shape = plan.places[step.name].shape[2:]
    return shape if len(shape) == rank else (1,) * rank


def stored_macs(plan: Plan, step: Step) -> int:
    """Multiply-adds that a convolution performs, explicit zeros and padding rows included.

    By Winograd they are those between the transforms.
    """
    # A recurrence is one product per row of its gates.
    rows, positions = plan.places[step.inputs[0]].shape[0], output_positions(plan, step)
    weight = plan.weights[step.weight]
    if step.winograd is None:
        return weight.stored * rows * prod(positions)
    tiles = rows * prod(tile_counts(step.winograd.outputs, positions))
    if step.op == "winograd_conv":
        return weight.stored * tiles
    filters = sum(strip[0].rows.size for strip in weight.strips)
    _, channels, *kernel = weight.shape
    return points(step.winograd.outputs, kernel) * channels * filters * tiles


def lifetimes(plan: Plan) -> dict[str, tuple[int, int]]:
    """First and last step at which each value of the arena must be intact."""
    life: dict[str, tuple[int, int]] = {}
    for i, step in enumerate(plan.steps):
        for name in step.reads:
            first = life.get(name, (-1, -1))[0]
            life[name] = (first, i)
        for name in (step.name, *step.scratch):
            life[name] = (i, i)
    for name in plan.outputs:
        life[name] = (life[name][0], len(plan.steps))
    return {name: span for name, span in life.items() if plan.places[name].segment == "arena"}
