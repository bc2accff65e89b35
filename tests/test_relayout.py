"""Changes of layout in tiles: every block, halo and ragged end; registers that are read across."""

from dataclasses import replace
from itertools import cycle, product

import numpy as np
import pytest
from kernel_runs import Case, check_everywhere, interpreted, on_host

from jit.checker import check
from jit.index import index
from jit.kernels.channelwise import RelayoutKernel
from jit.launches import launches
from jit.launches.form import Lowering
from jit.launches.relayout import Move, moved, relayout
from jit.llvm import emit_ir, emit_object
from jit.opencl.emitter import emit_source
from jit.pipeline import lower
from jit.program import (
    Buffer,
    Load,
    Program,
    ProgramError,
    Registers,
    Store,
    loop,
)
from jit.target import OpenCLTarget, llvm_target, target
from refimpl.layout import Layout
from refimpl.plan import Choice, Place, Plan, Step

MACHINES = ["x86-64-avx512", "x86-64-sse", "x86-64-avx2"]
MACHINE = target("x86-64-avx512")
SHAPES = [(1, 3, 7), (2, 16, 4), (1, 17, 2, 7), (2, 5, 3, 13), (1, 8, 2, 3, 19), (1, 33, 6, 1)]


def one_relayout(shape, x: Layout, y: Layout, name="x86-64-avx512") -> Plan:
    places = {"x": Place(shape, x, "input"), "y": Place(shape, y, "output")}
    step = Step("y", "relayout", ("x",), choice=Choice("relayout", ""))
    return Plan("move", name, 1, ("x",), ("y",), places, (step,), {}, {}, 0)


def halo(shape, margin) -> tuple[tuple[int, int], ...]:
    return ((margin, margin),) * (len(shape) - 2)


def layouts(shape, block):
    """Pairs that a planner may ask for: into blocks and out of them, planar with a margin."""
    plain, rows = Layout(1, halo(shape, 0)), Layout(1, halo(shape, 1))
    blocked = [Layout(block, halo(shape, margin)) for margin in (0, 2)]
    return [*product([plain], [*blocked, rows]), *product([*blocked, rows], [plain])]


@pytest.mark.parametrize(
    ("shape", "name"), list(zip(SHAPES, cycle(MACHINES), strict=False)), ids=str
)
def test_launches_of_a_relayout_leave_the_layout_of_the_same_values(shape, name):
    """Each launch alone, at every stage and as code: what it writes and nothing else."""
    machine = target(name)
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for x, y in layouts(shape, machine.lanes):
        plan = one_relayout(shape, x, y, name)
        given, wanted = x.pack(values), y.pack(values).astype(np.float64)
        written = np.zeros(wanted.size, bool)
        to = Lowering(plan, machine)
        for launch in relayout(to, plan.steps[0]):
            case, begin, mask = alone(launch, given, wanted, y)
            assert not (mask & y.halo_mask(shape)[begin:]).any()
            check_everywhere(case)
            written[begin:] |= mask
        left = wanted[~written]
        assert (left == 0).all()


def alone(launch, given, wanted, y):
    """(the launch as a case, where its y begins, what it writes there)."""
    refs = {name: ref.offset // 4 for name, ref in launch.buffers}
    part = given[refs["x"] :][: launch.params["XL"]]
    rest = wanted[refs["y"] :][: launch.params["YL"]]
    kernel, p = launch.kernel, launch.params
    channels = p["C"] if not (kernel.filled and kernel.y_block > 1) else kernel.y_block
    axes = [("N", p["N"])]
    offsets = np.zeros(1, int)
    for a, extent in [*axes, *((a, p[f"O{a}"]) for a in kernel.axes.upper())]:
        offsets = np.add.outer(offsets, np.arange(extent) * p[f"Y{a}"]).reshape(-1)
    c = np.arange(channels)
    places = c // kernel.y_block * p["YC"] + c % kernel.y_block
    mask = np.zeros(rest.size, bool)
    mask[np.add.outer(offsets, places)] = True
    return Case(kernel, dict(p), {"x": part}, {"y": np.where(mask, rest, np.nan)}), refs["y"], mask


def test_rows_that_lie_end_to_end_are_one():
    move = Move((1, 3, 2, 5, 7), (9, 70, 35, 7, 1), (9, 70, 35, 7, 1), 1, 1)
    assert move.with_joined_rows().extents == (1, 3, 70)
    apart = replace(move, ys=(9, 90, 45, 9, 1))
    assert apart.with_joined_rows() == apart


def test_rows_of_every_second_position_move_one_by_one():
    to = Lowering(one_relayout((1, 3, 20), Layout(1, ((0, 0),)), Layout(1, ((0, 0),))), MACHINE)
    x, y = to.operand("x"), to.operand("y")
    for xs, width in (((60, 20, 1), 8), ((60, 20, 2), 1)):
        move = Move((1, 3, 10), xs, (30, 10, 1), 1, 1)
        kernels = [launch.kernel for launch in moved(to, to.plan.steps[0], x, y, move)]
        assert [k.width for k in kernels if isinstance(k, RelayoutKernel)] == [width]


def test_a_short_row_behind_a_halo_still_moves_in_vectors():
    plan = one_relayout((1, 20, 7, 7), Layout(1, halo((0,) * 4, 0)), Layout(16, halo((0,) * 4, 1)))
    kernels = [launch.kernel for launch in launches(plan, target(plan.target))[0]]
    assert [(k.width, k.filled) for k in kernels if isinstance(k, RelayoutKernel)] == [
        (4, 0),
        (4, 4),
    ]


@pytest.mark.parametrize(("rows", "lanes"), [(4, 4), (16, 4), (4, 16), (8, 2), (2, 2), (16, 16)])
def test_registers_can_be_read_across(rows, lanes):
    x = np.arange(rows * lanes, dtype=np.float32)
    program = turned(rows, lanes)
    check(program)
    case = Case(RelayoutKernel(1, 1, 1), {}, {"x": x}, {"y": x.reshape(rows, lanes).T.reshape(-1)})
    for found in (
        interpreted(program, case),
        on_host(program, case, llvm_target("x86-64-sse")),
    ):
        np.testing.assert_array_equal(found["y"], case.wanted["y"])


def turned(rows: int, lanes: int) -> Program:
    """y = x transposed."""
    size, flat = (index(rows * lanes),), (index(1),)
    v, u, r, c = (index(name) for name in "vurc")
    write = Store("t", (r, v), Load("x", (r * lanes + v,)))
    read = Store("y", (c * rows + u,), Load("t", (u, c)))
    body = (
        Registers("t", (rows, lanes)),
        loop("r", rows, loop("v", lanes, write, kind="vector"), kind="unroll"),
        loop("c", lanes, loop("u", rows, read, kind="vector"), kind="unroll"),
    )
    buffers = (Buffer("x", "read", "f32", size, flat), Buffer("y", "write", "f32", size, flat))
    return Program("turned", (), buffers, body)


def across(*statements) -> Program:
    return Program("across", (), (), (Registers("t", (4, 4)), *statements))


@pytest.mark.parametrize(
    "statement",
    [
        Store("t", (index("v"), index(0)), Load("t", (index(0), index(0)))),
        Store("t", (index(0), index("v")), Load("t", (index("v"), index(1)))),
        Store("t", (index(0), index("v")), Load("t", (index("v") + 1, index(1)))),
        Store("t", (index(0), index("v")), Load("t", (index("v"), index("v")))),
    ],
)
def test_only_whole_axes_of_other_registers_are_read_across(statement):
    with pytest.raises(ProgramError, match="lane"):
        check(across(loop("v", 4, statement, kind="vector")))


def test_no_part_of_an_axis_is_read_across():
    part = Store("y", (index("v"),), Load("t", (index("v"), index(0))))
    with pytest.raises(ProgramError, match="contiguous"):
        check(across(Registers("y", (2,)), loop("v", 2, part, kind="vector")))


def test_a_device_without_shuffles_refuses_to_read_across():
    machine = target("opencl")
    assert isinstance(machine, OpenCLTarget)
    with pytest.raises(ProgramError, match="across"):
        emit_source([turned(4, 4)], machine)


def test_tiles_compile_for_every_target():
    for kernel in (RelayoutKernel(2, 1, 16, width=16), RelayoutKernel(2, 8, 1, width=4, filled=3)):
        for name in ("x86-64-sse", "x86-64-avx2", "x86-64-avx512", "cortex-a53", "apple-m1"):
            machine = llvm_target(name)
            assert emit_object(emit_ir([lower(kernel).program], machine), machine)
