"""docs/tour.md: one small layer through all stages, with a commentary for newcomers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import llvmlite.binding

from bench.shape import layer_graph, layer_shape
from gossamer.explain.assembly import Counts
from gossamer.explain.explanation import Change, Explanation, changes, explain
from gossamer.explain.meaning import first_wrong, verdicts
from gossamer.explain.pictures import column_picture, tile_picture
from gossamer.explain.wording import folded
from jit.decide import plan
from refimpl.graph import Graph, Node
from refimpl.schemes import scheme_from_text

LAYER, SCHEME, KEEP, TARGET = "conv2d:16x8x3x3@6x8", "kgs:8x4", 0.33, "cortex-a76"
_CONTEXT = 16  # so many unchanged lines are shown; of more, the first and last three

_INTRODUCTION = f"""\
# A tour: one layer, from tensor to machine code

This page is made by running the compiler: `python -m gossamer.explain.tour > docs/tour.md` writes
it, and a test compares. It follows one small convolution with a ReLU, `{LAYER}` (16
filters, 8 input channels, kernels of 3 x 3, a plane of 6 x 8), to the instructions of an ARM
Cortex-A76. Follow a layer of your own with

    gossamer explain --layer conv3d:256x256x3x3x3@8x28x28 --scheme kgs:32x4 --keep 0.28 \\
             --target cortex-a76 --html layer.html

## The layer and its mask

The layer was pruned with KGS, the scheme of RT3D (AAAI 2021): filters are taken in strips of 8 and
channels in groups of 4; each of those 8 x 4 groups of kernels keeps some kernel positions and loses
the others, the same ones in all of its kernels. Write the weights as a matrix with a row per filter
and a column per (channel, kernel position): what a strip loses is whole columns. What is left is a
smaller matrix without holes, which is why this sparsity can be fast: no test per weight, no index
per weight.

The picture shows the columns that the first strip keeps. Each stage below rewrites the loops and
changes nothing of what they compute; that is checked by running every form, in float64, with a mark
on every element that says whether it was ever written.
"""

_COMMENT = {
    "naive": """\
What is compiled is written down first as plain loops, without a thought for speed: every output
starts as its bias; every weight, pruned or not, multiplies its input; every output passes through
the ReLU. Activations already lie in memory as they will in the end: channels in blocks of four, one
vector of the target, so `f // 4` is the block and `f % 4` the lane. Around them lies a margin of
zeros, the halo, so that no loop has to ask whether a kernel hangs over the edge.

This form is the definition. All later ones must agree with it, and none of them is ever edited by
hand: each stage is a function from a program to a program, printed here as it came out.""",
    "compact": """\
The loops over channels and kernel positions are replaced by one loop over the columns that were
kept. Filters are taken in strips (`s`), a strip's kept columns in runs of four neighbouring
channels (`j`, and `l` inside); `values` holds the weights that are left, in the order in which they
are used, and `offset[j]` says how far from the output's own corner the run begins in the input.
`first` and `last` say where the runs of a strip begin and end, for each `kind` of row: in the first
and the last row of the output, a row of the kernel meets nothing but padding, and is left out.

This is the matrix reorder and the compact storage of GRIM (its BCRC format; PatDNN's filter kernel
reorder has the same aim): rows that keep the same columns are computed together, so the list of
columns is stored once for all of them. The pruned weights are not skipped. They are gone, and the
list is data: one compiled kernel serves every mask and every layer that is cut the same way.""",
    "tile": """\
The order of the loops decides what stays in cache and in registers. Output positions are cut into
tiles (`oht`, `owt` choose one, `th`, `tw` walk in it) and the loop over columns moves outside the
tile: for one column, all rows of the strip and all positions of the tile are visited. Blocks of
channels (`b`) come before the tiles, so that a strip's weights for a block stay in cache while all
positions pass.

A tile reuses each weight once per position and each input value once per row. The planner chose
this tile among many by counting loads, multiply-adds and their latency per column; GRIM and PatDNN
tune such parameters automatically.""",
    "vectorise": """\
Rows of a strip become vectors: `r` splits into `fv`, which vector, and `v`, which lane. The weights
of a column lie row after row, and a block of output channels is one vector, so both are loaded and
stored without a shuffle; the input is one value for all lanes.

Vectors are part of the program here, rather than something the code generator may or may not
discover later. That four filters can go together and none of them computes a pruned weight is what
KGS is for: all filters of a strip keep the same columns. RT3D prefers groups of 4 or 8 filters and
4 channels for this reason, to match the vector units of phones.""",
    "jam": """\
The loops of the tile are marked to be written out (`unroll`) inside the loop over columns. One
iteration of `j` then contains every multiply-add of its four columns, with the loops in between
gone.

Unroll and jam is what the next stages feed on: as long as the tile is a loop, there is nothing to
keep in a register across its iterations. GRIM's and PatDNN's elimination of loads (stage 8) rests
on the same unrolling.""",
    "fuse": """\
The three nests become one. The bias is the tile's first value, stored when the first block of
channels begins (`b == 0`), and the ReLU is applied when the last has been summed. Between blocks,
partial sums rest in the output itself.

Left apart, bias and activation would each pass over the whole output in memory. With this the layer
touches it once per block of channels, here once.""",
    "promote": """\
The tile's sums move from memory to registers, `acc`: loaded or set before the loop over columns,
stored after it. Inside, a multiply-add no longer loads and stores its sum.

The size of `acc` is the tile's, which the planner chose to fit the register file together with the
operands. Registers are subscripted by constants only, once unrolled, so that each element is a
value of its own for LLVM and never an array in memory.""",
    "reuse": """\
In the unrolled loops, the same weights are still loaded for each position, and the same inputs for
each vector of filters. Each load moves out of the loops it does not depend on: weights are loaded
once per column, and the four channels of a run as one vector, of which one lane after another is
used.

This is the register-level load redundancy elimination (LRE) of GRIM and PatDNN. It works because
all rows of a strip share the column: with weights pruned one by one, each row would need inputs of
its own. On ARM, multiplying by a lane is free: `fmla v, v, v[lane]` takes it as an operand.""",
    "address": """\
Subscripts become one offset per access. Each term of it is computed in the outermost loop where it
is known and added once (`a0`, `a1`, ...); at the access itself only constants are left, which the
instruction carries, and the distances of unrolled rows.

LLVM is asked for code generation alone, without its optimisation passes, so the cost of an address
is decided here, where it can be read.""",
    "parallel": """\
The loops around the tiles are marked `parallel`: their iterations write to different places. A
kernel is called with a range of each, its share of the work: one thread's is everything, and where
several run the network, each is called with a share of its own.

Shares are as equal as the launch can make them, by strips first and by positions where strips do
not divide well, and no sum is ever split, so the result does not depend on how many threads there
are. Where strips keep different numbers of columns, those numbers are what is divided: GRIM groups
rows of equal length to the same end, and a mask balanced per strip has it by construction.""",
}

_CODE = """\
The last form is printed as LLVM IR one to one: loops become branches, `unroll` loops are written
out, registers become SSA values, vector loops become vector instructions. Every instruction carries
the line that it came from (`gossamer explain --stage llvm`), and the HTML page links loops, IR and
assembly through them.

Below is the innermost loop as LLVM {version} generates it, runs of the same instruction folded.
The counts are static: instructions as they stand, per kept column of a strip, for a tile of
{tile}.
"""

_END = """\
## The numbers of a real layer

Nothing above depends on how small the layer was. The planner's choice, the stages and the counts of
a layer of real size come from the command at the top; `--diff reuse address` shows what one stage
did, `--bisect` runs every form and names the first that is wrong, `--dump-dir` writes all of them.
"""


def tour_graph() -> Graph:
    """The layer of the tour, with a ReLU behind it."""
    graph = layer_graph(layer_shape(LAYER), scheme_from_text(SCHEME), KEEP)
    relu = Node(("relu",), "relu", graph.outputs)
    return replace(graph, nodes=(*graph.nodes, relu), outputs=("relu",))


def tour() -> str:
    """The text of docs/tour.md."""
    e = explain(plan(tour_graph(), TARGET))
    wrong = first_wrong(list(verdicts(e.small, "y")))
    if wrong:
        raise ValueError(f"stage {wrong.stage} of the tour's layer {wrong}")
    parts = [_INTRODUCTION, _block([*column_picture(e), "", *tile_picture(e)]), _decision(e)]
    for number, (entry, delta) in enumerate(changes(e.trace), 1):
        parts.append(f"## {number}. {entry.name}: {entry.summary}\n")
        parts.append(_COMMENT[entry.name] + "\n")
        parts.append(_body(delta, first=number == 1))
    parts += [_code(e), _END]
    return "\n".join(parts)


def llvm_version() -> str:
    """Of the code generator, whose assembly the tour shows."""
    return ".".join(map(str, llvmlite.binding.llvm_version_info))


def _decision(e: Explanation) -> str:
    s = e.schedule
    kept, dense = e.step.kept_macs, e.step.dense_macs
    return (
        f"The planner's decision for `{TARGET}`: strips of {s.rows} filters, tiles of "
        f"{s.tile[0]} x {s.tile[1]} positions, vectors of\n{s.lanes} floats, columns in runs "
        f"of {s.run}. {kept:,} of {dense:,} multiply-adds are left.\n"
    )


def _body(delta: list[Change], first: bool) -> str:
    """The statements of a program; what the stage added is marked +, what it removed -."""
    lines = [c for c in delta if not _head(c.text)]
    if first:
        return _block([c.text[4:] for c in lines], "python")
    shown = []
    for mark, run in groupby(lines, key=lambda change: change.mark):
        same = [f"{mark} {change.text[4:]}" for change in run]
        long = mark == " " and len(same) > _CONTEXT
        shown += [*same[:3], "  ...", *same[-3:]] if long else same
    return _block(shown, "diff")


def _head(line: str) -> bool:
    declared = line.startswith("    ") and not line.startswith("     ") and line.endswith("),")
    return declared or line.startswith(("def ", "):"))


def _block(lines: list[str], language: str = "text") -> str:
    return "\n".join([f"```{language}", *lines, "```", ""])


def _code(e: Explanation) -> str:
    tile = f"{e.schedule.tile[0]} x {e.schedule.tile[1]} positions by {e.schedule.rows} filters"
    text = _CODE.format(version=llvm_version(), tile=tile)
    loop = list(folded(e.code[e.loop.start : e.loop.stop]))
    table = "\n".join(_counts(e.loop_counts, e.columns_per_iteration))
    return "\n".join(
        [f"## {len(e.trace.entries) + 1}. machine code\n", text, _block(loop, "asm"), table, ""]
    )


def _counts(counts: Counts, columns: int) -> Iterator[str]:
    numbers = {
        "instructions": counts.instructions,
        "multiply-adds (of 4 lanes)": counts.multiply_adds,
        "loads": counts.loads,
        "stores": counts.stores,
        "spills": counts.stack,
    }
    yield "| per kept column | |"
    yield "|---|---:|"
    for what, number in numbers.items():
        yield f"| {what} | {number / columns:g} |"


if __name__ == "__main__":
    print(tour(), end="")
