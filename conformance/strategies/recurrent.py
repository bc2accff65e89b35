"""Recurrent layers, alone and in nets of text."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from conformance.layers import Embedding, Fork, Layer, Linear, Net, Op, Recurrent
from conformance.strategies.parts import schemes, sizes


@st.composite
def _recurrent(draw: DrawFn, hidden: int) -> Recurrent:
    op = draw(st.sampled_from(("rnn", "gru", "lstm")))
    given: list[tuple[str, object]] = [("reverse", draw(st.booleans()))]
    if op == "rnn":
        given.append(("activation", draw(st.sampled_from(("tanh", "relu")))))
    if op == "gru":
        given.append(("linear_before_reset", draw(st.booleans())))
    scheme, keep = draw(schemes())
    state = draw(st.sampled_from(("input", "constant")))
    return Recurrent(op, tuple(given), hidden, state, scheme, keep)


@st.composite
def recurrences(draw: DrawFn) -> Net:
    """One or two recurrent layers over a few times, perhaps in both directions."""
    steps, batch = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    layers: list[Layer] = []
    for _ in range(draw(st.sampled_from((1, 1, 2)))):
        hidden = draw(sizes(20))
        layer = draw(_recurrent(hidden))
        both = Fork((layer,), (draw(_recurrent(hidden)),), "concat", 2)
        layers.append(both if draw(st.integers(0, 2)) == 2 else layer)
    return Net((steps, batch, draw(sizes(20))), tuple(layers))


@st.composite
def texts(draw: DrawFn) -> Net:
    """Indices to rows of a table, a recurrent layer over them, a classifier of the last state."""
    batch, steps = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    last = (("axis", 0), ("start", steps - 1), ("step", 1), ("size", 1))
    layers = (
        Embedding(draw(sizes(30)), draw(sizes(12))),
        Op("transpose", (("order", (1, 0, 2)),)),
        draw(_recurrent(draw(sizes(12)))),
        Op("slice", last),
        Linear(draw(sizes(9)), flatten=False),
        Op("log_softmax", (("axis", 2),)),
    )
    return Net((batch, steps), layers)
