"""The stages of lowering a kernel, in order: read this file like a table of contents.

`lower(kernel)` runs the list of the kernel's family and keeps every step in a `Trace`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from jit.kernels.batch import BatchKernel
from jit.kernels.block import BlockKernel
from jit.kernels.channelwise import ElementKernel, HaloKernel, PoolKernel, RelayoutKernel
from jit.kernels.conv import ConvKernel
from jit.kernels.definition import Kernel, definition
from jit.kernels.depthwise import DepthwiseKernel
from jit.kernels.gather import BlendKernel, EmbeddingKernel, TakeKernel
from jit.kernels.listed import ListedKernel
from jit.kernels.matmul import MatmulKernel
from jit.kernels.norms import LocalResponseKernel, NormKernel
from jit.kernels.panel import PanelKernel
from jit.kernels.plain import MapKernel, ReduceKernel
from jit.kernels.recurrent import CellKernel
from jit.kernels.softmax import SoftmaxKernel
from jit.kernels.turn import TurnKernel
from jit.kernels.winograd import WinogradInputKernel, WinogradOutputKernel
from jit.program import Kind, Program
from jit.rewrite import mark
from jit.stages.address import address
from jit.stages.apart import apart
from jit.stages.batch import batch
from jit.stages.blocks import blocks
from jit.stages.channels import channels
from jit.stages.compact import compact
from jit.stages.fuse import fuse
from jit.stages.jam import jam
from jit.stages.listed import listed
from jit.stages.panel import panel
from jit.stages.parallel import parallel
from jit.stages.partial import partial
from jit.stages.promote import promote
from jit.stages.reuse import reuse
from jit.stages.spread import spread
from jit.stages.tile import tile
from jit.stages.transpose import transpose
from jit.stages.turn import turn
from jit.stages.vectorise import vectorise

_POSITIONS = ["od", "oh", "ow"]


@dataclass(frozen=True)
class Stage:
    """A named step of lowering: one sentence on what it does, and the rewrite."""

    name: str
    summary: str
    run: Callable[[Program], Program]


@dataclass(frozen=True)
class Entry:
    """A stage that was run: its result, the seconds it took, whether anything changed."""

    name: str
    summary: str
    program: Program
    seconds: float
    changed: bool


@dataclass(frozen=True)
class Trace:
    """Every form a kernel went through, first the naive loops."""

    kernel: Kernel
    entries: tuple[Entry, ...]

    @property
    def program(self) -> Program:
        """The last form."""
        return self.entries[-1].program


def conv_stages(k: ConvKernel) -> list[Stage]:
    """From naive loops to register tiles over kept columns."""
    return [
        Stage(
            "compact", "keep only the kept columns, reordered into strips", lambda p: compact(p, k)
        ),
        Stage(
            "tile", "cut positions into tiles and choose the order of loops", lambda p: tile(p, k)
        ),
        Stage("vectorise", "make the filters of a strip vectors", lambda p: vectorise(p, k)),
        Stage("jam", "unroll the tile inside the loop over columns", jam),
        Stage("fuse", "join bias, residual and activation to the tile", fuse),
        *_apart(k.apart, "fv"),
        Stage("promote", "hold the tile's sums in registers", promote),
        _reuse({"values": "wreg", "x": "xreg"}),
        _address(),
        _parallel(["s", "n", "od", "oht", "owt"], k.grid),
    ]


def panel_stages(k: PanelKernel) -> list[Stage]:
    """From naive loops to register tiles of rows by positions over a packed panel."""
    tile: dict[str, Kind] = {"r": "unroll", "pb": "unroll"}
    return [
        Stage(
            "panel",
            "pack what a block of columns reads, and sum strips of kept columns over it",
            lambda p: panel(p, k),
        ),
        _positions(k.lanes),
        Stage(
            "jam",
            "unroll the tile inside the loop over columns",
            lambda p: replace(p, body=mark(p.body, tile)),
        ),
        *_apart(k.apart, "r"),
        _sums(within="s"),
        _reuse({"values": "wreg", "panel": "xreg"}),
        _address(),
        _parallel(["part"], False),
    ]


def listed_stages(k: ListedKernel) -> list[Stage]:
    """From naive loops to tiles of positions that one filter's list passes over."""
    return [
        Stage(
            "lists",
            "keep only the kept weights, filter by filter, and what they read",
            lambda p: listed(p, k),
        ),
        _positions(k.lanes),
        Stage(
            "jam",
            "unroll the tile inside the loop over weights",
            lambda p: replace(p, body=mark(p.body, {"pb": "unroll"})),
        ),
        _sums(within="i"),
        Stage("reuse", "load a weight once", lambda p: reuse(p, "j", {"values": "wreg"})),
        _address(),
        _parallel(["part"], False),
    ]


def block_stages(k: BlockKernel) -> list[Stage]:
    """From naive loops to tiles whose sums are added to rows of their own."""
    held = {"values": "wreg", "x": "xreg"}
    return [
        Stage("blocks", "keep only the kept weights, tile by tile", lambda p: blocks(p, k)),
        Stage(
            "reuse",
            "load weights and inputs of a column once",
            lambda p: reuse(reuse(p, "q", held), "j", held),
        ),
        _address(),
        _parallel(["s"], False),
    ]


def _positions(lanes: int) -> Stage:
    summary = "make neighbouring positions a vector"
    return Stage("positions", summary, lambda p: spread(p, "p", lanes, "v", "vector"))


def _sums(within: str) -> Stage:
    summary = "hold the tile's sums in registers"
    return Stage("promote", summary, lambda p: promote(p, "sums", within=within))


def _apart(wanted: bool, var: str) -> list[Stage]:
    summary = "sum a strip's filters one after another, which share no load then"
    return [Stage("apart", summary, lambda p: apart(p, var))] if wanted else []


def _channels(block: int) -> list[Stage]:
    summary = "make the channels of a block a vector"
    return [Stage("channels", summary, lambda p: channels(p, block))] if block > 1 else []


def batch_stages(k: BatchKernel) -> list[Stage]:
    """From naive loops to tiles whose sums are vectors of rows of x."""
    return [
        Stage("batch", "keep only the kept weights, tile by tile", lambda p: batch(p, k)),
        _reuse({"values": "wreg", "t": "xreg"}),
        _address(),
        _parallel(["s"], False),
    ]


def turn_stages(k: TurnKernel) -> list[Stage]:
    """From naive loops to squares that are turned in registers."""
    if k.lanes == 1:
        return [_address(), _parallel(["i", "j"], False)]
    squares = Stage("turn", "load by rows and store by columns", lambda p: turn(p, k))
    return [squares, _address(), _parallel(["ib", "jb"], False)]


def _reuse(held: dict[str, str]) -> Stage:
    """Of what a column loads, by buffer: the registers that hold it."""
    return Stage("reuse", "load weights and inputs of a column once", lambda p: reuse(p, "j", held))


def _address() -> Stage:
    return Stage("address", "one offset per access, invariant parts outside", address)


def _parallel(outer: list[str], grid: bool) -> Stage:
    """The last stage: the loops of `outer` span a grid, or are divided among tasks."""
    summary = "make every tile a work item" if grid else "divide the loops of tiles among tasks"
    return Stage("parallel", summary, lambda p: parallel(p, *outer))


def channelwise_stages(
    block: int, outer: list[str], *, accumulates: bool = False, grid: bool = False
) -> list[Stage]:
    """For kernels that treat every channel alike; `outer` are the loops whose stores are apart."""
    stages = _channels(block)
    if accumulates:
        stages.append(Stage("promote", "hold the window's value in a register", promote))
    return [*stages, _address(), _parallel(outer, grid)]


def depthwise_stages(k: DepthwiseKernel) -> list[Stage]:
    """From naive loops to tiles of positions by a block of channels."""
    loops = ["cb" if k.block > 1 else "c", "n", *_POSITIONS[3 - k.rank : -1], "owb"]
    return [
        *_channels(k.block),
        Stage(
            "positions",
            "compute some positions along width side by side",
            lambda p: spread(p, "ow", k.tile_w, "tw", "unroll"),
        ),
        Stage(
            "jam",
            "unroll the taps along width inside",
            lambda p: replace(p, body=mark(p.body, {"kw": "unroll"})),
        ),
        Stage("promote", "hold the tile's sums in registers", promote),
        Stage("reuse", "load a tap's weights once", lambda p: reuse(p, "kw", {"w": "wreg"})),
        _address(),
        _parallel(loops, k.grid),
    ]


def relayout_stages(k: RelayoutKernel) -> list[Stage]:
    """From elements to tiles of channels by positions, where rows are long enough."""
    positions = _POSITIONS[3 - k.rank :]
    if k.width > 1:
        turn = Stage("transpose", "move tiles, turned over in registers", lambda p: transpose(p, k))
        return [turn, _address(), _parallel(["cb", "n", *positions[:-1]], k.grid)]
    outer = [*positions, "c", "n"] if k.rank and k.block > 1 else ["c", "n", *positions]
    return channelwise_stages(1, outer, grid=k.grid)


def plain_stages(loops: list[str], *, lanes: int = 1, grid: bool = False) -> list[Stage]:
    """For elementwise kernels over plain arrays; the last loop is over contiguous elements."""
    stages: list[Stage] = []
    if lanes > 1:
        *loops, last = loops
        loops = [*loops, f"{last}b"]
        summary = "make neighbours of the last axis a vector"
        stages = [Stage("lanes", summary, lambda p: spread(p, last, lanes, "v", "vector"))]
    return [*stages, _address(), _parallel(loops, grid)]


def reduction_stages(
    loops: list[str], reduced: str, *, lanes: int = 1, promoted: bool = False, grid: bool = False
) -> list[Stage]:
    """For kernels that reduce inside `loops`, loop `reduced` being over contiguous elements."""
    stages: list[Stage] = []
    if promoted:
        stages.append(Stage("promote", "hold the element's value in a register", promote))
    if lanes > 1:
        summary = "reduce in the lanes of a vector, then its lanes"
        stages.append(Stage("partial", summary, lambda p: partial(p, reduced, lanes)))
    return [*stages, _address(), _parallel(loops, grid)]


def matmul_stages(k: MatmulKernel) -> list[Stage]:
    """From naive loops to register tiles of rows by vectors."""
    outer = ["b0", "b1", "mb", "nbb"]
    return [
        Stage(
            "lanes",
            "make neighbouring columns a vector",
            lambda p: spread(p, "n", k.lanes, "v", "vector"),
        ),
        Stage(
            "columns",
            "compute some vectors side by side",
            lambda p: spread(p, "nb", k.vectors, "fv", "unroll"),
        ),
        Stage(
            "rows",
            "compute some rows side by side",
            lambda p: spread(p, "m", k.rows, "r", "unroll"),
        ),
        Stage("promote", "hold the tile's sums in registers", promote),
        Stage(
            "reuse",
            "load both factors of a k once",
            lambda p: reuse(p, "k", {"c": "creg", "a": "areg"}),
        ),
        _address(),
        _parallel(outer, k.grid),
    ]


def stages(kernel: Kernel) -> list[Stage]:
    """The list of stages of a kernel's family."""
    match kernel:
        case ConvKernel():
            return conv_stages(kernel)
        case PanelKernel():
            return panel_stages(kernel)
        case ListedKernel():
            return listed_stages(kernel)
        case BlockKernel():
            return block_stages(kernel)
        case BatchKernel():
            return batch_stages(kernel)
        case TurnKernel():
            return turn_stages(kernel)
        case PoolKernel() | ElementKernel() | HaloKernel():
            outer = ["cb" if kernel.block > 1 else "c", "n", *_POSITIONS]
            return channelwise_stages(
                kernel.block, outer, grid=kernel.grid, accumulates=isinstance(kernel, PoolKernel)
            )
        case RelayoutKernel():
            return relayout_stages(kernel)
        case MapKernel():
            return plain_stages(kernel.loops, lanes=kernel.lanes, grid=kernel.grid)
        case ReduceKernel():
            return reduction_stages(
                kernel.loops,
                f"r{kernel.inner - 1}",
                lanes=kernel.lanes,
                promoted=True,
                grid=kernel.grid,
            )
        case TakeKernel() | BlendKernel():
            return plain_stages(["o", "j", "i"], lanes=kernel.lanes, grid=kernel.grid)
        case EmbeddingKernel():
            return plain_stages(["m", "c"], lanes=kernel.lanes, grid=kernel.grid)
        case SoftmaxKernel(dense="c"):
            return reduction_stages(["o", "i"], "c", lanes=kernel.lanes, grid=kernel.grid)
        case SoftmaxKernel():
            return plain_stages(["o", "i"], lanes=kernel.lanes, grid=kernel.grid)
        case NormKernel():
            return reduction_stages(["a", "b"], "q", lanes=kernel.lanes, grid=kernel.grid)
        case LocalResponseKernel():
            return plain_stages(["o", "c", "i"], lanes=kernel.lanes, grid=kernel.grid)
        case MatmulKernel():
            return matmul_stages(kernel)
        case DepthwiseKernel():
            return depthwise_stages(kernel)
        case CellKernel():
            return plain_stages(["n", "i"], lanes=kernel.lanes, grid=kernel.grid)
        case WinogradInputKernel() | WinogradOutputKernel():
            return channelwise_stages(kernel.block, ["cb"])


@lru_cache(maxsize=1024)
def lower(kernel: Kernel) -> Trace:
    """Run the stages of the kernel's family; equal kernels share one Trace."""
    start = time.perf_counter()
    program = definition(kernel)
    entries = [
        Entry(
            "naive",
            "the definition: every weight, one after another",
            program,
            time.perf_counter() - start,
            True,
        )
    ]
    for stage in stages(kernel):
        start = time.perf_counter()
        result = stage.run(program)
        seconds = time.perf_counter() - start
        entries.append(Entry(stage.name, stage.summary, result, seconds, result != program))
        program = result
    return Trace(kernel, tuple(entries))
