"""The suite itself: strategies that reach the odd corners, comparers that fail when they should,
options that are refused when wrong."""

import time
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, settings

from conformance import backend, strategies
from conformance.build import build
from conformance.check import arithmetic, check_plan, decisions, judge
from conformance.cuts import recut
from conformance.layers import Conv, Element, Linear, Net
from conformance.primitives import Form, ulps, worst
from conformance.suite import PROFILES, Suite, profile
from conformance.values import EXACT, KINDS, Values
from jit.decide import plan as make_plan
from jit.primitives import PRIMITIVES
from jit.session import DeviceError, Timeout
from refimpl import graph as graphs
from refimpl.bounds import bounded_step
from refimpl.graph import Constant
from refimpl.plan import evaluate_step

SEARCH = settings(max_examples=3000, derandomize=True, database=None, phases=[Phase.generate],
                  deadline=None, suppress_health_check=list(HealthCheck))  # fmt: skip


def reaches(strategy, condition):
    """Fails (NoSuchExample) unless the strategy produces such a thing."""
    return find(strategy, condition, settings=SEARCH)


def planned(case, target="x86-64-avx2"):
    graph, _ = build(case.net, case.values)
    made = make_plan(graph, target)
    return made if case.cut is None else recut(made, case.cut)


def convs(case):
    made = planned(case)
    return [(step, made) for step in made.steps if step.op == "conv"]


# -- strategies --------------------------------------------------------------------------------

LAYERS = {
    "asymmetric padding": lambda c: any(lo != hi for lo, hi in c.padding),
    "padding of one side only": lambda c: any(lo and not hi for lo, hi in c.padding),
    "dilation with stride": lambda c: max(c.dilation) > 1 and max(c.stride) > 1,
    "uneven strides": lambda c: len(set(c.stride)) > 1,
    "depthwise": lambda c: c.groups > 1 and c.groups == c.filters,
    "groups with several channels": lambda c: c.groups > 1 and c.filters >= 2 * c.groups,
    "everything pruned": lambda c: c.keep == 0.0,
    "residual, norm and activation": lambda c: c.norm and c.residual == "input" and c.activation,
    "one filter": lambda c: c.filters == 1,
    "a block higher than the weight": lambda c: ":100x" in c.scheme and c.filters < 100,
    "a ragged block": lambda c: c.scheme.startswith("kgs:4x") and c.filters % 4,
}


@pytest.mark.parametrize("corner", LAYERS)
def test_convolutions_reach(corner):
    reaches(strategies.conv_layers(), lambda net: LAYERS[corner](net.layers[0]))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("structures", [strategies.conv_layers, strategies.pools, strategies.nets])
def test_every_rank_is_drawn(structures, rank):
    reaches(structures(), lambda net: len(net.shape) == rank + 2)


PLANS = {
    "an empty strip beside a full one": lambda step, made: (
        len({tile.columns.size == 0 for tile in made.weights[step.weight]}) == 2
    ),
    "several blocks of channels": lambda step, made: (
        step.schedule.channel_block < made.weights[step.weight].shape[1]
    ),
    "a last strip lower than the others": lambda step, made: (
        len({tile.rows.size for tile in made.weights[step.weight]}) == 2
    ),
    "a last row of tiles lower than the others": lambda step, made: (
        len(made.places[step.name].shape) > 3
        and made.places[step.name].shape[-2] > step.schedule.tile[0]
        and made.places[step.name].shape[-2] % step.schedule.tile[0]
    ),
    "vectors narrower than a block": lambda step, made: (
        step.schedule.lanes < made.places[step.name].layout.block
    ),
    "a packed panel": lambda step, _: step.schedule.panel > 0,
    "tiles of positions that share a panel": lambda step, made: (
        step.schedule.panel > 1 and prod(made.places[step.name].shape[2:]) > step.schedule.tile[1]
    ),
    "strips of filters in another order": lambda step, made: np.any(
        np.diff(made.weights[step.weight].strips[0][0].rows) == -1
    ),
    "explicit zeros in tiles": lambda step, made: any(
        (tile.values == 0).any() for tile in made.weights[step.weight]
    ),
    "padding rows": lambda step, made: any(
        (tile.rows < 0).any() for tile in made.weights[step.weight]
    ),
}


@pytest.mark.parametrize("corner", PLANS)
def test_plans_reach(corner):
    cases = strategies.cases(strategies.conv_layers())
    reaches(cases, lambda case: any(PLANS[corner](*pair) for pair in convs(case)))


def test_runs_of_four_columns_are_drawn_for_aarch64():
    def runs(case):
        made = planned(case, "cortex-a76")
        return any(s.schedule and s.schedule.run == 4 for s in made.steps)

    reaches(strategies.cases(strategies.conv_layers()), runs)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_values_is_drawn(kind):
    case = reaches(strategies.cases(strategies.elements()), lambda c: c.values.kind == kind)
    _, inputs = build(case.net, case.values)
    again = build(case.net, case.values)[1]
    assert [x.tobytes() for x in inputs] == [x.tobytes() for x in again]


def test_values_are_what_they_say():
    def drawn(kind, shape=(3, 50, 20)):
        return Values(kind, 5).input(Values(kind, 5).generator(), shape)

    assert not np.isfinite(drawn("not_finite")).all()
    assert 0 < np.abs(drawn("denormal")).max() < 1e-17
    assert (drawn("zeros") == 0).mean() > 0.8
    assert np.signbit(drawn("zeros")[drawn("zeros") == 0]).any()
    assert drawn("one_hot").sum() == 3
    spread = np.abs(drawn("wild"))
    assert spread.max() / spread.min() > 1e20


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("structures", [strategies.conv_layers, strategies.linear_layers])
def test_exact_kinds_demand_equality_everywhere(structures, kind):
    seen = []

    def inexact(case):
        case = replace(case, values=replace(case.values, kind=kind))
        graph, inputs = build(case.net, case.values)
        made = make_plan(graph, "x86-64-avx2", algorithms=("direct",))
        values = dict(zip(made.inputs, inputs, strict=True))
        for step in made.steps:
            values[step.name], bound = bounded_step(made, step, values, arithmetic(made))
            plain = step.activation is None or step.activation[0] in ("relu",)
            if step.op == "conv" and plain:
                seen.append(case)
                return bound.any()
        return False

    few = settings(SEARCH, max_examples=150)
    with pytest.raises(Exception, match=r"NoSuchExample|No examples|no value"):
        find(strategies.cases(structures()), inexact, settings=few)
    assert len(seen) > 20


# -- comparers ---------------------------------------------------------------------------------


class Reference:
    """A backend in a few lines: the reference itself, rounded to float32, with room to cheat."""

    def __init__(self, plan, spoil=None, at=None):
        self.plan, self.spoil, self.at = plan, spoil, at
        self.images = {}

    def steps(self, *inputs, poison=False):
        assert poison
        for name, x in zip(self.plan.inputs, inputs, strict=True):
            self.images[name] = self.plan.places[name].layout.pack(np.float32(x))
        for i, step in enumerate(self.plan.steps):
            values = {
                n: self.plan.places[n].layout.unpack(self.images[n], self.plan.places[n].shape)
                for n in step.reads
            }
            with np.errstate(all="ignore"):
                y = evaluate_step(self.plan, step, {n: np.float64(v) for n, v in values.items()})
                y = y.astype(np.float32)
            self.images[step.name] = self.plan.places[step.name].layout.pack(y)
            if self.spoil and i == self.at:
                self.spoil(self, step)
            yield step.name

    def memory(self, name):
        return self.images[name]


NET = Net((1, 5, 6, 6), (
    Conv(9, (3, 3), (1, 1), ((1, 1), (1, 0)), (1, 1), activation=("relu", ())),
    Conv(9, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), residual="self"),
    Element("none", ("tanh", ())),
))  # fmt: skip


def checked(kind="integers", spoil=None, at=None, net=NET):
    graph, inputs = build(net, Values(kind, 3))
    made = make_plan(graph, "x86-64-avx2")
    return check_plan(made, Reference(made, spoil, at), inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_passes(kind):
    report = checked(kind)
    assert report.ok, str(report)
    assert report.json()["ok"]
    assert "ok" in str(report)
    assert "end to end" in str(report)


def inner(backend, step):
    """Flat positions of a value's elements inside the halo, and no tail lanes."""
    place = backend.plan.places[step.name]
    numbers = np.arange(place.layout.size(place.shape))
    return place.layout.unpack(numbers, place.shape).reshape(-1)


def nudge(amount):
    def spoil(backend, step):
        image = backend.images[step.name]
        place = inner(backend, step)[-1]
        image[place] = amount(image[place])

    return spoil


def stain_halo(backend, step):
    place = backend.plan.places[step.name]
    mask = place.layout.halo_mask(place.shape)
    backend.images[step.name][np.flatnonzero(mask)[-1]] = np.nan


def overwrite_input(backend, _):
    backend.images[backend.plan.inputs[0]][0] += 1


def crash(*_):
    raise DeviceError("called code ended in SIGSEGV")


def skip(backend, step):
    backend.images["nothing"] = backend.images[step.name]


CHEATS = {
    "one unit more": (nudge(lambda v: v + 1), 1, "elements are wrong"),
    "one last place": (nudge(lambda v: np.nextafter(v, np.float32(1e9))), 1, "elements are wrong"),
    "never written": (nudge(lambda _: np.nan), 2, "never written"),
    "infinite": (nudge(lambda _: np.inf), 2, "elements are wrong"),
    "a stain in the halo": (stain_halo, 1, "of the halo are not zero"),
    "an input overwritten": (overwrite_input, 1, "overwrites x0"),
    "a crash": (crash, 2, "SIGSEGV"),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_is_found(cheat):
    spoil, at, words = CHEATS[cheat]
    report = checked("integers", spoil, at)
    assert not report.ok
    assert words in str(report)
    assert not report.end_to_end
    failed = [step.name for step in report.steps if not step.ok]
    assert failed == [report.steps[at].name]


def test_steps_out_of_order_are_found():
    graph, inputs = build(NET, Values("integers", 3))
    made = make_plan(graph, "x86-64-avx2")

    class Reordered(Reference):
        def steps(self, *inputs, poison=False):
            yield from reversed([*super().steps(*inputs, poison=poison)])

    report = check_plan(made, Reordered(made), inputs)
    assert not report.ok
    assert "the backend ran" in str(report)


STEP = make_plan(build(NET, Values("integers"))[0], "x86-64-avx2").steps[1]


@pytest.mark.parametrize(
    ("value", "exact", "bound", "passes"),
    [
        (1.0, 1.0, 0.0, True), (1.0, 1.1, 0.2, True), (1.0, 1.1, 0.05, False),
        (np.nan, np.nan, 0.0, True), (np.nan, 1.0, 10.0, False), (1.0, np.nan, 10.0, False),
        (np.inf, np.inf, 0.0, True), (-np.inf, np.inf, 1.0, False), (np.inf, 1.0, 1.0, False),
        (3e38, np.inf, 1.0, False), (np.inf, 3e38, np.inf, True), (np.nan, 3e38, np.inf, True),
        (-0.0, 0.0, 0.0, True),
    ],
)  # fmt: skip
def test_judging_one_element(value, exact, bound, passes):
    report = judge(STEP, *(np.full((1, 1), number) for number in (value, exact, bound)))
    assert report.ok == passes
    assert report.unjudged == np.isinf(bound)


def test_a_plan_that_means_something_else_is_found():
    graph, inputs = build(NET, Values("integers", 3))
    made = make_plan(graph, "x86-64-avx2")
    assert not decisions(graph, made, inputs)
    name = next(n for n in made.constants if n.endswith("bias"))
    bias = made.constants[name].array + np.float32(1)
    other = replace(made, constants={**made.constants, name: Constant(bias)})
    assert "does not compute" in decisions(graph, other, inputs)[0]


def test_pruned_weights_are_absent_and_explicit_zeros_are_not():
    """What the check of a Plan holds a backend to, and what it does not."""
    layer = Linear(8, scheme="unstructured", keep=0.3)
    graph, _ = build(Net((1, 16), (layer,)), Values("signed", 1))
    mask = next(iter(graph.sparsity.values())).mask.array
    column = int(np.flatnonzero(mask.any(axis=0) & ~mask.all(axis=0))[0])
    x = np.ones((1, 16), np.float32)
    x[0, column] = np.inf
    (meant,) = graphs.evaluate(graph, x)
    assert np.isinf(meant[0, mask[:, column]]).all()
    assert np.isfinite(meant[0, ~mask[:, column]]).all()
    made = make_plan(graph, "x86-64-avx2")
    assert check_plan(made, Reference(made), (x,)).ok


def test_errors_in_ulp():
    one = np.float32(1)
    assert ulps(np.nextafter(one, np.float32(2)), np.float64(1)) == 1
    assert ulps(np.float32(np.nan), np.float64(np.nan)) == 0
    assert ulps(np.float32(np.inf), np.float64(1)) == np.inf
    exp = PRIMITIVES["exp"]
    assert worst(exp, np.float32([0.0]), np.array([1e-40]))[0] <= 0, "nothing is promised there"
    assert worst(exp, np.float32([3e38]), np.array([np.inf]))[0] == np.inf
    assert worst(exp, np.float32([np.inf]), np.array([3.4028235e38]))[0] <= 0, "rounding"
    assert worst(PRIMITIVES["add"], np.float32([0.0]), np.array([1e-40]))[0] > 0.5
    assert worst(exp, np.float32([1.001]), np.array([1.0]))[0] > 1000


def test_forms_are_programs():
    text = str(Form("fma", 4).program())
    assert "vector" in text
    assert Form("maximum", 1, 6.0).arity == 1


# -- backends and options ----------------------------------------------------------------------


def test_a_backend_plugs_in_by_entry_point(monkeypatch):
    class Point:
        name = "mine"

        def load(self):
            return Reference

    monkeypatch.setattr(backend, "entry_points", lambda **_: [Point()])
    mine = backend.open_backend("mine")
    assert mine.lacks("cortex-a76") is None
    suite = Suite(mine, PROFILES["quick"])
    case = strategies.Case(NET, Values("signed", 1))
    assert 0 < suite.check(case, "cortex-a76") <= 1
    assert suite.tally.cases["signed"] == 1
    assert "conv" in str(suite.tally)
    with pytest.raises(DeviceError, match="unknown device"):
        backend.open_backend("yours")


def test_a_wrong_backend_fails_with_the_smallest_case(monkeypatch):
    def lossy(backend, step):
        if step.op == "conv":
            backend.images[step.name] = backend.images[step.name] * np.float32(1.25)

    class Lossy(backend.PluggedBackend):
        def __init__(self):
            super().__init__("lossy", lambda plan: Spoiled(plan, lossy))

    class Spoiled(Reference):
        def steps(self, *inputs, poison=False):
            for name in super().steps(*inputs, poison=poison):
                lossy(self, next(s for s in self.plan.steps if s.name == name))
                yield name

    suite = Suite(Lossy(), PROFILES["quick"])
    with pytest.raises(AssertionError, match="elements are wrong"):
        suite.hold(strategies.cases(strategies.linear_layers()), "x86-64-avx2", 20)


def test_time_runs_out():
    with pytest.raises(Timeout, match="did not return"), backend.time_limit("here", 0.05):
        time.sleep(10)


def test_profiles():
    assert profile("exhaustive").share > profile("quick").share
    assert profile("2.5").share == 2.5
    for wrong in ("fast", "-1", "0", "nan"):
        with pytest.raises(ValueError, match="multiple"):
            profile(wrong)
