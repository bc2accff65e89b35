"""The bound of a recurrent layer's states, and of depthwise convolutions."""

import numpy as np
import pytest
from one_step import FUSED, KINDS, PLAIN, SUMS, drawn, f32, ulped, within

from refimpl.bounds import bounded_step
from refimpl.graph import Constant
from refimpl.layout import plain
from refimpl.plan import Place, Plan, Schedule, Step, evaluate_step
from refimpl.plan.recurrence import KINDS as CELLS
from refimpl.plan.recurrence import States
from refimpl.tiles import pack

H = 5
tanh, sigmoid = np.tanh, lambda x: 1 / (1 + np.exp(-x))


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def layer(kind, steps, batch, reverse, weight, bias):
    """A Plan of one `recurrence`; its weight is packed in strips of one filter."""
    gates, states = CELLS[kind] * H, 2 if kind == "lstm" else 1
    table = States(kind, reverse, steps, batch)
    shapes = {"z": (steps * batch, gates), **{f"s{i}": (batch, H) for i in range(states)}}
    places = {name: Place(shape, plain(shape), "input") for name, shape in shapes.items()}
    places["y"] = Place((table.rows, H), plain((table.rows, H)), "output")
    step = Step("y", "recurrence", tuple(shapes), (("kind", kind), ("reverse", reverse)),
                "w", "b", schedule=Schedule(1, 1, (1, 1), 1, H, False))  # fmt: skip
    tiles = pack(weight, weight != 0, [1] * gates, H)
    constants = {"b": Constant(bias)}
    plan = Plan(
        "one", "host", 1, tuple(shapes), ("y",), places, (step,), {"w": tiles}, constants, 0
    )
    return plan, table, shapes


class Machine:
    """The cells in float32, sums of products in some order."""

    def __init__(self, rng, order, weight, bias):
        self.rng, self.order, self.weight, self.bias = rng, order, weight, bias

    def hidden(self, h):
        bias = np.broadcast_to(self.bias, (len(h), len(self.bias)))[..., None]
        return self.order(np.concatenate([h[:, None, :] * self.weight, bias], axis=2))

    def gate(self, name, x):
        function = {"tanh": tanh, "sigmoid": sigmoid}[name]
        return ulped(self.rng, function(np.float64(x)), name)

    def cell(self, kind, z, held):
        h, z = held[0], np.split(z, CELLS[kind], axis=1)
        s = np.split(self.hidden(h), CELLS[kind], axis=1)
        if kind == "rnn_relu":
            return [np.maximum(z[0] + s[0], f32(0))]
        if kind == "rnn_tanh":
            return [self.gate("tanh", z[0] + s[0])]
        if kind == "lstm":
            i, f, o = (self.gate("sigmoid", z[k] + s[k]) for k in (0, 1, 3))
            c = f * held[1] + i * self.gate("tanh", z[2] + s[2])
            return [o * self.gate("tanh", c), c]
        r, u = (self.gate("sigmoid", z[k] + s[k]) for k in (0, 1))
        if kind == "gru":
            n = self.gate("tanh", z[2] + r * s[2])
        else:
            n = self.gate("tanh", z[2] + np.split(self.hidden(r * h), 3, axis=1)[2])
        return [(f32(1) - u) * n + u * h]


def computed_table(machine, table, z, first, slip=None):
    """All states in float32, each from the one before; h is wrong once, at the time `slip`."""
    y = np.zeros((table.rows, H), f32)

    def rows(state, time):
        return y[table.row(state, time) : table.row(state, time) + table.batch]

    for state, value in enumerate(first):
        rows(state, table.given)[:] = value
    for at, before, after in table.order():
        inputs = z[at * table.batch : (at + 1) * table.batch]
        held = [rows(state, before).copy() for state in range(table.count)]
        for state, value in enumerate(machine.cell(table.kind, inputs, held)):
            rows(state, after)[:] = value
        rows(0, after)[:] += f32(0.01 * (after == slip))
    return y


def case(kind, numbers, order, reverse, slip=None):
    """(plan, values with the computed table, the meaning's table)."""
    rng = np.random.default_rng(0)
    weight = drawn(rng, (CELLS[kind] * H, H), numbers)
    bias = drawn(rng, (CELLS[kind] * H,), numbers)
    plan, table, shapes = layer(kind, 4, 3, reverse, weight, bias)
    values = {name: drawn(rng, shape, numbers) for name, shape in shapes.items()}
    z, *first = values.values()
    values["y"] = computed_table(Machine(rng, order, weight, bias), table, z, first, slip)
    return plan, table, values


@pytest.mark.parametrize("order", SUMS)
@pytest.mark.parametrize("numbers", [*KINDS])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", CELLS)
def test_every_state_is_near_what_follows_from_the_one_before(kind, reverse, numbers, order):
    plan, _, values = case(kind, numbers, order, reverse)
    exact, bound = bounded_step(plan, plan.steps[0], values, PLAIN)
    share = within(values["y"], exact, bound)
    if numbers == "tame":
        assert np.isfinite(bound).all()
        assert (bound < 1e-4).all()
        assert share > 0.02, "the bound is vain"


@pytest.mark.parametrize("kind", CELLS)
def test_errors_do_not_pile_up_over_time(kind):
    """One wrong state fails alone: the next are judged on it as it is."""
    plan, table, values = case(kind, "tame", SUMS[0], False, slip=2)
    exact, bound = bounded_step(plan, plan.steps[0], values, PLAIN)
    wrong = np.abs(values["y"] - exact) > bound
    rows = np.flatnonzero(wrong.any(axis=1))
    assert rows.tolist() == [*range(table.row(0, 2), table.row(0, 3))]


def test_the_given_state_must_be_copied_exactly():
    plan, table, values = case("lstm", "tame", SUMS[0], True)
    _, bound = bounded_step(plan, plan.steps[0], values, PLAIN)
    for state in (0, 1):
        assert (bound[table.row(state, table.given)] == 0).all()
        assert (bound[table.row(state, table.last)] > 0).all()


def test_from_exact_states_the_exact_table_follows():
    plan, _, values = case("gru", "tame", SUMS[0], False)
    whole = evaluate_step(plan, plan.steps[0], values)
    exact, _ = bounded_step(plan, plan.steps[0], {**values, "y": whole}, PLAIN)
    assert np.allclose(exact, whole, atol=1e-14)


def test_relu_of_integers_is_exact():
    rng = np.random.default_rng(0)
    weight, bias = (rng.integers(-3, 4, shape).astype(f32) for shape in ((H, H), (H,)))
    plan, table, shapes = layer("rnn_relu", 3, 2, False, weight, bias)
    values = {name: rng.integers(-8, 9, shape).astype(f32) for name, shape in shapes.items()}
    values["y"] = evaluate_step(plan, plan.steps[0], values)
    assert (bounded_step(plan, plan.steps[0], values, PLAIN)[1] == 0).all()
    assert table.rows == 8


def test_a_gate_that_is_shut_hides_what_is_behind_it():
    """What the bound cannot see: a candidate state that an update gate of 1 leaves out."""
    weight, bias = np.zeros((3 * H, H), f32), np.zeros(3 * H, f32)
    plan, _, shapes = layer("gru", 1, 1, False, weight, bias)
    z = np.zeros(shapes["z"], f32)
    z[:, H : 2 * H] = 200
    values = {"z": z, "s0": np.ones((1, H), f32), "y": np.ones((2, H), f32)}
    _, bound = bounded_step(plan, plan.steps[0], values, PLAIN)
    values["z"] = np.where(np.arange(3 * H) >= 2 * H, f32(5), z)
    exact, _ = bounded_step(plan, plan.steps[0], values, PLAIN)
    assert (np.abs(exact - values["y"]) <= bound).all()


# -- depthwise ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", SUMS)
@pytest.mark.parametrize("numbers", KINDS)
@pytest.mark.parametrize("residual", [False, True])
def test_depthwise(order, numbers, residual):
    rng = np.random.default_rng(5)
    x, w, b, r = (drawn(rng, s, numbers) for s in ((2, 3, 8), (3, 1, 3), (3,), (2, 3, 4)))
    places = {name: Place(a.shape, plain(a.shape), "input") for name, a in (("x", x), ("r", r))}
    places["y"] = Place((2, 3, 4), plain((2, 3, 4)), "output")
    attributes = (("dilation", (1,)), ("padding", ((1, 0),)), ("stride", (2,)))
    step = Step("y", "depthwise", ("x",), attributes, "w", "b", "r" if residual else "")
    constants = {"w": Constant(w), "b": Constant(b)}
    plan = Plan("one", "host", 1, ("x", "r"), ("y",), places, (step,), {}, constants, 0)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0)))
    taps = [padded[:, :, k : k + 7 : 2] * w[:, 0, k, None] for k in range(3)]
    y = order(np.stack([*taps, np.broadcast_to(b[:, None], (2, 3, 4))], axis=-1))
    y = y + r if residual else y
    within(y, *bounded_step(plan, step, {"x": x, "r": r}, PLAIN))
    fused = np.broadcast_to(b[:, None], (2, 3, 4))
    for k in range(3):
        product = np.float64(padded[:, :, k : k + 7 : 2]) * np.float64(w[:, 0, k, None])
        fused = (product + fused).astype(f32)
    fused = fused + r if residual else fused
    within(fused, *bounded_step(plan, step, {"x": x, "r": r}, FUSED))
