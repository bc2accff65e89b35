"""Small Graphs and Plans of every kind of step, made without torch."""

import numpy as np
from hypothesis import strategies as st

import jit.decide
from refimpl.graph import Constant, Graph, Node, Sparsity, attributes
from refimpl.plan import Plan
from refimpl.schemes import KGS

TARGETS = ("x86-64-sse", "x86-64-avx2", "x86-64-avx512", "cortex-a53", "cortex-a76")


def small_graph(
    filters: int = 11,
    channels: int = 5,
    size: int = 7,
    *,
    stride: int = 1,
    sparse: bool = True,
    clamp: bool = False,
    seed: int = 0,
) -> Graph:
    """conv, relu or clamp, conv with a residual, max pool, average, linear, softmax."""
    rng = np.random.default_rng(seed)

    def window(k: int, s: int, p: int) -> dict:
        return {"stride": (s, s), "padding": ((p, p), (p, p))}

    conv = {"dilation": (1, 1), "groups": 1}
    act = (
        Node(("act",), "clamp", ("c1",), attributes(lo=0.0, hi=float("inf")))
        if clamp
        else Node(("act",), "relu", ("c1",))
    )
    nodes = (
        Node(("c1",), "conv", ("x", "w1", "b1"), attributes(**window(3, stride, 1), **conv)),
        act,
        Node(("c2",), "conv", ("act", "w2"), attributes(**window(3, 1, 1), **conv)),
        Node(("sum",), "add", ("c2", "act")),
        Node(
            ("pool",),
            "max_pool",
            ("sum",),
            attributes(**window(2, 2, 0), kernel=(2, 2), dilation=(1, 1), ceil_mode=True),
        ),
        Node(("mean",), "adaptive_avg_pool", ("pool",), attributes(output=(1, 1))),
        Node(("flat",), "flatten", ("mean",), attributes(start=1, end=3)),
        Node(("head",), "linear", ("flat", "w3")),
        Node(("y",), "softmax", ("head",), attributes(axis=1)),
    )
    w2 = rng.standard_normal((filters, filters, 3, 3)).astype(np.float32)
    sparsity = {}
    if sparse:
        scheme = KGS(4, 4)
        mask = scheme.project(np.abs(w2), 0.4)
        w2 = w2 * mask
        sparsity = {"w2": Sparsity(scheme, Constant(mask))}
    arrays = {
        "w1": rng.standard_normal((filters, channels, 3, 3)),
        "b1": rng.standard_normal(filters),
        "w2": w2,
        "w3": rng.standard_normal((3, filters)),
    }
    constants = {name: Constant(a.astype(np.float32)) for name, a in arrays.items()}
    return Graph(
        "small", (("x", (2, channels, size, size + 1)),), nodes, ("y",), constants, sparsity
    )


def small_plan(target: str = "x86-64-sse", **sizes) -> Plan:
    """The Plan of `small_graph`."""
    return jit.decide.plan(small_graph(**sizes), target)


def plans() -> st.SearchStrategy[Plan]:
    """Plans of drawn sizes for drawn targets."""
    return st.builds(
        small_plan,
        st.sampled_from(TARGETS),
        filters=st.integers(1, 19),
        channels=st.integers(1, 18),
        size=st.integers(3, 9),
        stride=st.integers(1, 2),
        sparse=st.booleans(),
        clamp=st.booleans(),
        seed=st.integers(0, 9),
    )
