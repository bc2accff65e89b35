"""Turned matrices: whole squares in registers and single elements; columns of registers."""

import numpy as np
import pytest
from kernel_runs import Case, check_everywhere

from jit.checker import check
from jit.index import index
from jit.kernels.batch import BatchKernel
from jit.kernels.turn import TurnKernel
from jit.llvm import emit_ir, emit_object
from jit.opencl.emitter import emit_source
from jit.pipeline import lower
from jit.program import Buffer, Load, Program, ProgramError, Registers, Store, loop
from jit.program_text import parse
from jit.target import OpenCLTarget, llvm_target, target


def turn_case(kernel, rows, columns, *, slack=3):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, columns + slack)).astype(np.float32)
    bias = rng.standard_normal(rows).astype(np.float32)
    y = np.full((columns, rows + slack), np.nan)
    exact = x[:, :columns].T.astype(np.float64)
    y[:, :rows] = exact + bias if kernel.bias else exact
    given = {"x": x.reshape(-1), **({"bias": bias} if kernel.bias else {})}
    params = {"R": rows, "C": columns, "XR": columns + slack, "YC": rows + slack}
    return Case(kernel, params, given, {"y": y.reshape(-1)[: -slack or None]})


CASES = [
    turn_case(TurnKernel(4), 8, 4),
    turn_case(TurnKernel(8, bias=True), 8, 24),
    turn_case(TurnKernel(16, bias=True), 32, 16, slack=1),
    turn_case(TurnKernel(1), 5, 7),
    turn_case(TurnKernel(1, bias=True), 1, 3),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.kernel.name)
def test_every_stage_and_the_code_turn(case):
    check_everywhere(case)


@pytest.mark.parametrize("name", ["x86-64-sse", "x86-64-avx2", "x86-64-avx512", "cortex-a76"])
def test_cpus_compile_it(name):
    machine = llvm_target(name)
    kernels = [TurnKernel(machine.lanes), BatchKernel(8, 2, machine.lanes, True, False)]
    ir = emit_ir([lower(kernel).program for kernel in kernels], machine)
    assert emit_object(ir, machine, 0)


def test_work_items_have_no_columns():
    machine = target("opencl")
    assert isinstance(machine, OpenCLTarget)
    with pytest.raises(ProgramError, match="reads no tile across"):
        emit_source([lower(TurnKernel(4)).program], machine)


def test_a_square_is_touched_by_whole_vectors_only():
    text = str(lower(TurnKernel(8)).program)
    assert "tile[k, v] = x[" in text
    assert "= tile[v, k]" in text
    assert parse(text) == lower(TurnKernel(8)).program


def columns_of(store, *more):
    """A program that loads a tile of 4 by 4 and stores what a column of it is said to be."""
    x = Buffer("x", "read", "f32", (index(16),), (index(1),))
    y = Buffer("y", "write", "f32", (index(16),), (index(1),))
    fill = Store("tile", (index("k"), index("v")), Load("x", (index("k") * 4 + index("v"),)))
    rows = loop("k", 4, loop("v", 4, fill, kind="vector"), kind="unroll")
    out = loop("v", 4, store, *more, kind="vector")
    return Program("columns", (), (x, y), (Registers("tile", (4, 4)), rows, out))


def test_a_column_that_is_also_written_is_refused():
    own = Store("tile", (index(0), index("v")), Load("tile", (index("v"), index(1))))
    with pytest.raises(ProgramError, match="a lane touches what another one stores to tile"):
        check(columns_of(own))


def test_columns_of_memory_are_refused():
    beside = Store("y", (index("v"),), Load("tile", (index("v"), index("v"))))
    with pytest.raises(ProgramError, match="the lanes of tile are not contiguous"):
        check(columns_of(beside))
    check(columns_of(Store("y", (index("v"),), Load("tile", (index("v"), index(2))))))
