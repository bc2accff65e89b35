"""Every operator of the Graph compiles: decomposed it means the same, and it keeps its bound."""

import numpy as np
import pytest
from operators import EXAMPLES

from conformance.check import check_plan
from jit.decide import plan
from jit.decide.decompose import decompose
from jit.executable import open_executable
from jit.interpret_plan import interpret_plan
from refimpl.graph import evaluate, index_inputs
from refimpl.importers.build import Builder
from refimpl.ops import OPERATORS
from refimpl.plan import evaluate as evaluate_plan

CONSTANT_FROM = {
    "conv": 1, "conv_transpose": 1, "winograd_conv": 1, "linear": 1, "batch_norm": 1,
    "layer_norm": 1, "group_norm": 1,
    "rms_norm": 1, "embedding": 1, "prelu": 1, "rnn": 1, "gru": 1, "lstm": 1,
}  # fmt: skip
"""The first input that is a constant of the network; all are given where none is named."""


def graph_of(op, shapes, attributes):
    """A Graph of one operator, with a name for each of its values, and inputs to run it on."""
    rng = np.random.default_rng(5)
    given = CONSTANT_FROM.get(op, len(shapes))
    names = [f"x{i}" for i in range(len(shapes))]
    builder = Builder(zip(names[:given], shapes[:given], strict=True))
    for name, shape in zip(names[given:], shapes[given:], strict=True):
        values = rng.standard_normal(shape)
        # What may be a variance is positive.
        builder.constant(
            name, (np.abs(values) + 0.5 if op == "batch_norm" else values).astype("f4")
        )
    made = builder.add("y", op, tuple(names), **attributes)
    graph = builder.graph(op, [made] if isinstance(made, str) else made, {})
    return graph, inputs_of(graph, rng)


def inputs_of(graph, rng):
    indices = index_inputs(graph)
    return [
        rng.integers(0, indices[name], shape).astype(np.float32) if name in indices
        else np.abs(rng.standard_normal(shape)).astype(np.float32) + np.float32(0.5)
        for name, shape in graph.inputs
    ]  # fmt: skip


CASES = [
    pytest.param(op, *example, id=f"{op}-{i}")
    for op, examples in EXAMPLES.items()
    for i, example in enumerate(examples if isinstance(examples, list) else [examples])
]


def test_every_operator_has_an_example():
    assert {case.values[0] for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize(("op", "shapes", "attributes"), CASES)
def test_an_operator_compiles_and_keeps_its_bound(op, shapes, attributes):
    graph, inputs = graph_of(op, shapes, attributes)
    exact = evaluate(graph, *inputs)
    for found, wanted in zip(evaluate(decompose(graph), *inputs), exact, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    made = plan(graph, "host")
    planned = evaluate_plan(made, *inputs)
    for name, wanted in zip(made.outputs, exact, strict=True):
        np.testing.assert_allclose(planned[name], wanted, rtol=1e-5, atol=1e-6)
    for stage in ("naive", "last"):
        values = interpret_plan(made, *inputs, stage=stage)
        for name in made.outputs:
            np.testing.assert_allclose(values[name], planned[name], rtol=1e-5, atol=1e-6)
    with open_executable(made, "host-isolated") as net:
        report = check_plan(made, net, inputs)
    assert report.ok, str(report)
