"""How work is divided: shares of loops, the order of launches, tasks of steps."""

from dataclasses import replace
from itertools import product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operators import ATTEMPTS
from small_plans import small_graph, small_plan

import jit.decide
from jit.artifact import build
from jit.program import ProgramError
from jit.program_text import parse
from jit.rounds import turns
from jit.shares import divide, extents, parallel_loops, whole
from refimpl.graph import Graph, Node, attributes
from refimpl.plan import PlanError, check
from refimpl.plan.report import rows, summary

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple)


@ATTEMPTS
@given(COUNTS, st.integers(1, 12), st.data())
def test_shares_are_the_whole_once(counts, tasks, data):
    costs = ()
    if data.draw(st.booleans()):
        costs = tuple(
            data.draw(st.lists(st.integers(0, 9), min_size=counts[0], max_size=counts[0]))
        )
    shares = divide(tuple((0, count) for count in counts), tasks, costs)
    assert 1 <= len(shares) <= tasks
    done = [i for share in shares for i in product(*(range(*span) for span in share))]
    assert len(done) == prod(counts)
    assert set(done) == set(product(*map(range, counts)))


@pytest.mark.parametrize(
    ("counts", "tasks", "sizes"),
    [
        ((8, 5), 2, [20, 20]),  # outer loops first
        ((3, 14), 2, [21, 21]),  # three strips leave a thread idle, positions do not
        ((3, 14), 3, [14, 14, 14]),
        ((1, 1, 7), 4, [2, 2, 2, 1]),
        ((2, 2, 3), 4, [3, 3, 3, 3]),
        ((1, 1), 5, [1]),
    ],
)
def test_shares_are_as_equal_as_rectangles_can_be(counts, tasks, sizes):
    shares = divide(tuple((0, count) for count in counts), tasks)
    assert sorted((prod(b - a for a, b in share) for share in shares), reverse=True) == sizes


def test_what_costs_more_gets_fewer_iterations():
    assert divide(((0, 5),), 2, (6, 1, 1, 1, 3)) == [((0, 1),), ((1, 5),)]
    # One strip holds almost everything: cutting positions divides it as well.
    assert divide(((0, 2), (0, 4)), 2, (99, 1)) == [((0, 2), (0, 2)), ((0, 2), (2, 4))]
    assert divide(((0, 2), (0, 4)), 2, (0, 0)) == [((0, 1), (0, 4)), ((1, 2), (0, 4))]


KERNEL = """
def k(N: param(1, 99, 1), M: param(0, 99, 1), y: write(f32, (N, M), (M, 1))):
    a0 = 2*N
    for n in parallel(0, N):
        for b in range(0, 3):
            for m in parallel(0, (M // 4)):
                y[n, m] = 0.0
"""


def test_parallel_loops_are_found_through_other_loops():
    program = parse(KERNEL)
    assert [loop.var for loop in parallel_loops(program)] == ["n", "m"]
    assert whole(extents(program), {"N": 3, "M": 9}) == ((0, 3), (0, 2))


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        (KERNEL.replace("(0, (M // 4))", "(0, n)"), "loop m is not bounded by parameters"),
        (KERNEL.replace("(0, N)", "(1, N)"), "loop n is not bounded by parameters"),
        (KERNEL + "            y[n, 0] = 1.0\n", "beside something else"),
        (KERNEL + "    for l in parallel(0, N):\n        y[l, 0] = 1.0\n", "beside something else"),
    ],
)
def test_loops_that_do_not_divide_the_work_are_refused(changed, wrong):
    with pytest.raises(ProgramError, match=wrong):
        parallel_loops(parse(changed))


def order(plan, threads=2):
    """[(step, piece, whether members wait before it, shares)] of a plan divided everywhere."""
    steps = tuple(replace(step, tasks=threads) for step in plan.steps)
    artifact = build(replace(plan, threads=threads, steps=steps))
    symbols = {kernel: symbol for symbol, kernel in artifact.kernels.items()}
    pairs = [(x, artifact.signatures[symbols[x.kernel]]) for x in artifact.launches]
    made = turns(pairs, {step.name: threads for step in plan.steps})
    return [
        (launch.step, launch.piece, turn.waits, len(turn.shares))
        for (launch, _), turn in zip(pairs, made, strict=True)
    ]


def graph_of(*nodes, outputs, x=(1, 6, 5, 7)):
    return Graph("g", (("x", x),), nodes, outputs, {})


def test_regions_of_a_convolution_do_not_wait_for_each_other():
    made = order(small_plan("x86-64-sse", filters=19, size=9))
    conv = [x for x in made if x[0] == "act" and x[1] == "region"]
    assert len(conv) > 1
    assert [waits for _, _, waits, _ in conv] == [True] + [False] * (len(conv) - 1)


def test_what_reads_waits_and_what_is_apart_does_not():
    relu, negated = Node(("a",), "relu", ("x",)), Node(("b",), "sigmoid", ("x",))
    both = Node(("y",), "add", ("a", "b"))
    made = order(jit.decide.plan(graph_of(relu, negated, both, outputs=("y",)), "x86-64-sse"))
    waits = {step: any(w for s, _, w, _ in made if s == step) for step, *_ in made}
    assert waits == {"a": False, "b": False, "y": True, "y:out": True}


def test_padding_is_filled_before_its_middle_is_written():
    pad = attributes(padding=((0, 0), (0, 0), (2, 1), (1, 2)), mode="constant", value=3.0)
    node = Node(("y",), "pad", ("x",), pad)
    made = [x for x in order(jit.decide.plan(graph_of(node, outputs=("y",)))) if x[0] == "y"]
    fill, middle = (next(x for x in made if x[0] == "y"), made[-1])
    assert fill is not middle
    assert any(waits for _, _, waits, _ in made[1:])


def test_one_thread_never_waits():
    assert not any(waits for _, _, waits, _ in order(small_plan(), threads=1))


def test_small_steps_stay_whole():
    made = jit.decide.plan(small_graph(filters=40, channels=32, size=24), "x86-64-avx2", threads=4)
    tasks = {step.name: step.tasks for step in made.steps}
    assert tasks["act"] == tasks["sum"] == 4
    assert tasks["head"] == tasks["y"] == 1
    check(made)
    shown = {row.step: row for row in rows(made)}
    alone = {step.name: step.choice.cycles for step in made.steps}
    assert shown["act"].cycles == alone["act"] / 4
    assert "4 tasks" in shown["act"].cells[1]
    assert "task" not in shown["head"].cells[1]
    assert "4 threads" in summary(made)


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_absurd_numbers_of_threads_are_refused(threads):
    with pytest.raises(PlanError, match=f"^{threads} threads: a plan is for 1 to 256"):
        jit.decide.plan(small_graph(), threads=threads)


def test_threads_for_opencl_are_refused_by_name():
    with pytest.raises(PlanError, match="2 threads: opencl divides the work over its device"):
        jit.decide.plan(small_graph(), "opencl", threads=2)


def test_more_tasks_than_threads_are_refused():
    made = small_plan()
    steps = (replace(made.steps[0], tasks=2), *made.steps[1:])
    with pytest.raises(PlanError, match=f"{steps[0].name}: 2 tasks for 1 threads"):
        check(replace(made, steps=steps))
