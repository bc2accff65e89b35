"""Recognition: the scheme and block size of a weight, from its zeros alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl import recognise as module
from refimpl.graph import Constant, Graph, Node, Sparsity, attributes, check, evaluate
from refimpl.recognise import CANDIDATES, SLACK, annotate, recognise, recognise_network
from refimpl.schemes import (
    BCR,
    KGS,
    NM,
    Channel,
    Dense,
    Filter,
    Pattern,
    SchemeError,
    Unstructured,
    Vanilla,
)


def pruned(scheme, shape, keep, parts=1, seed=0):
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    mask = scheme.project(weight, keep, parts=parts)
    return weight * mask, mask


@pytest.mark.parametrize(
    ("scheme", "shape", "keep", "parts"),
    [
        (Dense(), (16, 8, 3, 3), 1, 1),
        (Filter(), (70, 8, 3, 3), 0.4, 1),
        (Channel(), (24, 33, 3, 3), 0.4, 1),
        (Vanilla(8, 4), (62, 30, 3, 3), 0.4, 1),
        (KGS(8, 4), (62, 30, 3, 3), 0.3, 1),
        (KGS(16, 4), (64, 32, 3, 3, 3), 0.3, 1),
        (KGS(4, 8), (24, 16, 5), 0.3, 2),
        (BCR(16, 32), (93, 70), 0.2, 3),
        (BCR(8, 16), (40, 16, 3, 3), 0.3, 1),
        (Pattern(4, 12), (32, 16, 3, 3), 0.3, 1),
        (Pattern(4, 12, 8), (32, 16, 3, 3), 0.4, 1),
        (Pattern(4, 12), (32, 1, 3, 3), 0.4, 32),
        (KGS(16, 8), (96, 1, 3, 3), 0.4, 96),
        (Vanilla(8, 8), (4 * 20, 39), 0.3, 4),
        (NM(2, 4), (33, 30), 0.5, 1),
        (Unstructured(), (33, 30, 3, 3), 0.5, 1),
    ],
)
def test_a_pruned_weight_names_its_scheme(scheme, shape, keep, parts):
    weight, mask = pruned(scheme, shape, keep, parts)
    found = recognise(weight, parts=parts)
    assert found.scheme == scheme
    assert (found.mask == mask).all()
    assert found.multiplied == np.count_nonzero(mask)
    assert found.exploited == 1
    assert found.kept == mask.mean()
    assert (found.index_bytes == 0) == mask.all()


@pytest.mark.parametrize(
    ("scheme", "shape", "keep"),
    [
        (Dense(), (64, 32, 3, 3), 1),
        (KGS(8, 4), (64, 32, 3, 3), 0.3),
        (NM(2, 4), (128, 96), 0.5),
        (BCR(16, 32), (160, 128), 0.3),
        (Pattern(4, 12), (64, 32, 3, 3), 0.3),
        (Filter(), (64, 32, 3, 3), 0.5),
        (Unstructured(), (64, 32, 3, 3), 0.5),
    ],
)
def test_a_few_accidental_zeros_hide_no_scheme(scheme, shape, keep):
    weight, mask = pruned(scheme, shape, keep)
    weight[np.random.default_rng(1).random(shape) < SLACK / 3] = 0
    found = recognise(weight)
    assert found.scheme == scheme
    zeros = np.count_nonzero(weight == 0)
    if scheme != Unstructured():
        assert found.multiplied == np.count_nonzero(mask)
        assert zeros > np.count_nonzero(~mask)
    assert found.exploited == np.count_nonzero(~found.mask) / zeros


def test_more_zeros_than_the_slack_are_worth_an_index_for_every_weight():
    weight, _ = pruned(KGS(8, 4), (64, 32, 3, 3), 0.3)
    weight[np.random.default_rng(1).random(weight.shape) < 3 * SLACK] = 0
    assert recognise(weight).scheme == Unstructured()


@given(
    st.sampled_from(CANDIDATES[1:]),
    st.tuples(st.integers(1, 20), st.integers(1, 9), st.integers(1, 3)),
    st.floats(0.1, 1),
    st.floats(0, 0.2),
)
@settings(max_examples=40, deadline=None)
def test_the_mask_keeps_every_value_and_hardly_any_candidate_multiplies_less(
    scheme, shape, keep, holes
):
    rng = np.random.default_rng(1)
    weight = rng.standard_normal(shape)
    saliency = scheme.saliency(weight)
    levels = np.unique(saliency[saliency > -np.inf])
    weight *= saliency >= levels[int((1 - keep) * len(levels))]
    weight[rng.random(shape) < holes] = 0
    structured = [candidate for candidate in CANDIDATES if candidate != Unstructured()]
    found = recognise(weight, structured)
    assert found.scheme.legal(found.mask) is None
    assert not weight[~found.mask].any()
    zeros = np.count_nonzero(weight == 0)
    assert found.exploited == (np.count_nonzero(~found.mask) / zeros if zeros else 1)
    covers = [candidate.cover(weight != 0) for candidate in structured]
    fewest = min(np.count_nonzero(c) for c in covers if c is not None)
    assert fewest <= found.multiplied <= fewest * (1 + SLACK)
    assert recognise(weight).exploited >= found.exploited


def test_an_empty_weight_and_one_that_no_candidate_fits():
    assert recognise(np.zeros((4, 4))).multiplied == 0
    with pytest.raises(SchemeError, match=r"nm\(n=1,m=4,axis=1\) can keep"):
        recognise(np.ones((4, 4)), [NM(1, 4)])


@pytest.mark.parametrize("parts", [1, 2])
def test_of_a_large_weight_the_first_filters_choose_unless_the_rest_differs(monkeypatch, parts):
    alike, _ = pruned(KGS(8, 4), (128, 16, 9), 0.3, parts)
    other, _ = pruned(Unstructured(), (128, 16, 9), 0.3, parts)
    mixed = np.concatenate([alike[:64], other[64:]])
    whole = [recognise(weight, parts=parts) for weight in (alike, other, mixed)]
    monkeypatch.setattr(module, "LARGE", 32 * 16 * 9 + 5)
    for weight, before in zip((alike, other, mixed), whole, strict=True):
        found = recognise(weight, parts=parts)
        assert found.scheme == before.scheme
        assert (found.mask == before.mask).all()
    assert whole[2].scheme == Unstructured()


def test_the_weights_of_a_network_are_recognised_by_their_parts():
    grouped, _ = pruned(KGS(4, 8), (24, 16, 5), 0.3, 2)
    linear, mask = pruned(Vanilla(8, 4), (40, 24), 0.4)
    known, _ = pruned(Filter(), (24, 24), 0.5)
    dense = np.ones((24, 24), np.float32)
    nodes = [
        Node(
            ("a",),
            "conv",
            ("x", "grouped"),
            attributes(stride=(1,), padding=((2, 2),), dilation=(1,), groups=2),
        ),
        Node(("b",), "reshape", ("a",), attributes(shape=(7, 24))),
        Node(("c",), "linear", ("b", "known")),
        Node(("d",), "linear", ("c", "dense")),
        Node(("e",), "linear", ("d", "linear")),
    ]
    constants = {"grouped": grouped, "known": known, "dense": dense, "linear": linear}
    graph = Graph(
        "net",
        (("x", (1, 32, 7)),),
        tuple(nodes),
        ("e",),
        {name: Constant(array) for name, array in constants.items()},
        {"known": Sparsity(Filter(), Constant(known != 0))},
    )
    found = recognise_network(graph)
    assert {name: f.scheme for name, f in found.items()} == {
        "grouped": KGS(4, 8),
        "linear": Vanilla(8, 4),
    }
    assert found["linear"].kept == mask.mean()
    assert found["linear"].exploited == 1
    annotated = annotate(graph, found)
    check(annotated)
    assert {name: s.scheme for name, s in annotated.sparsity.items()} == {
        "grouped": KGS(4, 8),
        "linear": Vanilla(8, 4),
        "known": Filter(),
    }
    x = np.random.default_rng(0).standard_normal((1, 32, 7))
    for ours, theirs in zip(evaluate(annotated, x), evaluate(graph, x), strict=True):
        np.testing.assert_allclose(ours, theirs)
    assert recognise_network(annotated) == {}


def test_weights_that_cannot_be_pruned_are_left_alone():
    """Read by an operator that needs all of it, or by two that divide it differently."""
    recurrent, _ = pruned(Vanilla(4, 4), (24, 8), 0.4, 3)
    shared, _ = pruned(Vanilla(4, 4), (8, 8), 0.4)
    zeros = np.zeros(24, np.float32)
    cell = attributes(linear_before_reset=True, reverse=False)
    nodes = (
        Node(("y", "h"), "gru", ("x", "wi", "wh", "b", "b", "h0"), cell),
        Node(("z",), "linear", ("h", "shared")),
        Node(("out",), "matmul", ("z", "shared")),
    )
    arrays = {"wi": recurrent, "wh": recurrent * 1, "b": zeros, "shared": shared}
    arrays["h0"] = np.zeros((2, 8), np.float32)
    constants = {name: Constant(array) for name, array in arrays.items()}
    graph = Graph("net", (("x", (5, 2, 8)),), nodes, ("out",), constants)
    check(graph)
    found = recognise_network(graph)
    assert {name: f.scheme for name, f in found.items()} == dict.fromkeys(
        ["wi", "wh"], Vanilla(4, 4)
    )
    check(annotate(graph, found))


@pytest.mark.parametrize(("zeros", "taken"), [(12, False), (13, True)])
def test_a_graph_takes_up_what_saves_a_tenth(zeros, taken):
    """Of 128 weights; of those with fewer zeros nothing is lost but the zeros."""
    weight = np.ones(128, np.float32)
    weight[np.random.default_rng(0).permutation(128)[:zeros]] = 0
    constants = {"w": Constant(weight.reshape(16, 8))}
    graph = Graph("net", (("x", (1, 8)),), (Node(("y",), "linear", ("x", "w")),), ("y",), constants)
    found = recognise_network(graph)
    assert found["w"].worthwhile == taken
    assert set(annotate(graph, found).sparsity) == ({"w"} if taken else set())


def test_a_weight_of_zeros_is_recognised():
    constants = {"w": Constant(np.zeros((16, 8), np.float32))}
    graph = Graph("net", (("x", (1, 8)),), (Node(("y",), "linear", ("x", "w")),), ("y",), constants)
    annotated = annotate(graph, recognise_network(graph))
    check(annotated)
    assert not annotated.sparsity["w"].mask.array.any()
