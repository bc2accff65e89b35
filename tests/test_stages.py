"""Every stage of every kernel keeps the meaning: interpreted, parsed back, checked, compiled."""

from dataclasses import replace

import numpy as np
import pytest

from jit.checker import check
from jit.decide import plan
from jit.interpret_plan import differences, interpret_plan
from jit.kernels.channelwise import (
    ElementKernel,
    HaloKernel,
    PoolKernel,
    RelayoutKernel,
)
from jit.kernels.conv import ConvKernel
from jit.kernels.depthwise import DepthwiseKernel
from jit.kernels.gather import BlendKernel, EmbeddingKernel, TakeKernel
from jit.kernels.listed import ListedKernel
from jit.kernels.matmul import MatmulKernel
from jit.kernels.norms import LocalResponseKernel, NormKernel
from jit.kernels.panel import PanelKernel
from jit.kernels.plain import MapKernel, ReduceKernel
from jit.kernels.recurrent import CellKernel
from jit.kernels.softmax import SoftmaxKernel
from jit.launches import launches
from jit.llvm import emit_ir, emit_object
from jit.pipeline import lower
from jit.program import Program, ProgramError
from jit.program_text import parse
from jit.shrink import shrink
from jit.target import target, target_names
from refimpl.graph import Constant, Graph, Node, Sparsity, attributes
from refimpl.plan import PlanError, evaluate
from refimpl.schemes import KGS

RELU = ("relu", ())
KERNELS = [
    ConvKernel(3, 32, 16, (1, 14), 1, 16, 16, 1, RELU, True, False, True),
    ConvKernel(2, 8, 4, (2, 5), 4, 4, 4, 2, ("silu", ()), False, True, True),
    ConvKernel(1, 1, 1, (1, 3), 1, 16, 16, 1, None, False, False, False),
    ConvKernel(0, 128, 16, (1, 1), 1, 16, 16, 1, None, True, False, True),
    ConvKernel(2, 8, 8, (1, 4), 1, 1, 16, 3, ("clamp", (0.0, 6.0)), False, False, True),
    ConvKernel(2, 32, 16, (1, 3), 1, 16, 16, 1, RELU, True, False, True, apart=True),
    ConvKernel(1, 8, 4, (1, 5), 4, 4, 4, 1, None, False, True, True, grid=True, apart=True),
    PanelKernel(4, 8, 2, 3, 8, RELU, True, True, apart=True),
    PanelKernel(8, 16, 3, 4, 16, RELU, False, True),
    PanelKernel(3, 4, 2, 6, 4, ("silu", ()), True, False),
    PanelKernel(1, 1, 1, 1, 1, None, True, False),
    PanelKernel(8, 16, 3, 4, 16, ("tanh", ()), True, True, turned=True),
    PanelKernel(2, 4, 1, 4, 4, None, False, False, turned=True),
    ListedKernel(1, 16, 3, 16, RELU, False, True),
    ListedKernel(4, 4, 2, 4, ("silu", ()), True, False),
    PoolKernel(3, 16, "maximum", False, "none"),
    PoolKernel(2, 4, "add", True, "window"),
    PoolKernel(2, 8, "add", False, "padded_window"),
    ElementKernel(3, 16, "add", ("hardswish", ()), True),
    ElementKernel(0, 4, "affine", ("tanh", ()), False),
    ElementKernel(1, 8, "activation", ("elu", (1.0,)), True),
    RelayoutKernel(3, 1, 16),
    RelayoutKernel(2, 4, 1),
    RelayoutKernel(1, 1, 1),
    RelayoutKernel(3, 1, 16, width=16),
    RelayoutKernel(2, 16, 1, width=8, filled=3),
    RelayoutKernel(1, 1, 8, width=4, filled=5),
    RelayoutKernel(2, 4, 1, width=8),
    RelayoutKernel(2, 1, 1, width=4),
    HaloKernel(3, 16),
    HaloKernel(2, 1),
    SoftmaxKernel(),
    SoftmaxKernel(log=True),
    SoftmaxKernel(lanes=8, dense="c"),
    NormKernel("layer", 1e-5, "element", True, True, lanes=16),
    NormKernel("rms", 1e-5, "none", False, False),
    LocalResponseKernel(5, 2, 1e-4, 0.75, 1.0, True, lanes=4),
    SoftmaxKernel(lanes=4),
    CellKernel("gru", True, lanes=8),
    CellKernel("lstm", False),
    MatmulKernel(16, 6, True, vectors=2),
    MatmulKernel(1, 3, False),
    ElementKernel(2, 8, "mul", None, True, broadcast=True),
    DepthwiseKernel(2, 16, 7, 3, 2, 1, RELU, True, True),
    DepthwiseKernel(1, 4, 1, 5, 1, 2, None, False, False),
    MapKernel(3, "prelu", ("tanh", ()), lanes=4),
    MapKernel(2, "sub", lanes=4, z_constant=True),
    MapKernel(1, "fill", value=-1.5),
    ReduceKernel(2, 2, "add", mean=True, lanes=4),
    TakeKernel(lanes=16),
    BlendKernel(True),
    EmbeddingKernel(lanes=8),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_every_form_is_checked_and_parses_back(kernel):
    for entry in lower(kernel).entries:
        check(entry.program)
        assert parse(str(entry.program)) == entry.program, entry.name


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_every_form_can_be_emitted(kernel):
    """Not only the last one: the naive loops compile too."""
    machine = target("x86-64-avx512")
    for entry in lower(kernel).entries:
        assert emit_object(emit_ir([entry.program], machine), machine, 0)


@pytest.mark.parametrize("name", [n for n in target_names() if n != "host"])
def test_the_last_form_compiles_for_every_target(name):
    machine = target(name)
    if machine.arch == "opencl":
        pytest.skip("OpenCL C is emitted by jit.opencl")
    for kernel in KERNELS:
        if hasattr(kernel, "fused"):
            kernel = replace(kernel, fused=machine.has("fma"))
        assert emit_object(emit_ir([lower(kernel).program], machine), machine)


def small_net(seed=0, rank=3):
    """conv + batch norm + relu, pool, pruned conv + residual, linear, softmax: ragged sizes."""
    rng = np.random.default_rng(seed)

    def array(*shape):
        return Constant(rng.standard_normal(shape).astype(np.float32))

    taps, ones, pad = (3,) * rank, (1,) * rank, ((1, 1),) * rank
    conv = attributes(stride=ones, padding=pad, dilation=ones, groups=1)
    pruned = rng.standard_normal((5, 5, *taps)).astype(np.float32)
    mask = KGS(4, 2).project(pruned, 0.4)
    positive = Constant(rng.uniform(0.5, 2, 5).astype(np.float32))
    constants = {
        "w1": array(5, 3, *taps),
        "w2": Constant(pruned * mask),
        "w3": array(7, 5 * 2**rank),
        "g": array(5),
        "b": array(5),
        "m": array(5),
        "v": positive,
        "b3": array(7),
    }
    pool = attributes(
        kernel=(2,) * rank,
        stride=(2,) * rank,
        padding=((0, 0),) * rank,
        dilation=ones,
        ceil_mode=False,
    )
    nodes = (
        Node(("c1",), "conv", ("x", "w1"), conv),
        Node(("n1",), "batch_norm", ("c1", "g", "b", "m", "v"), attributes(eps=1e-5)),
        Node(("a1",), "relu", ("n1",)),
        Node(("p1",), "max_pool", ("a1",), pool),
        Node(("c2",), "conv", ("p1", "w2"), conv),
        Node(("s2",), "add", ("c2", "p1")),
        Node(("t2",), "tanh", ("s2",)),
        Node(("f",), "flatten", ("t2",), attributes(start=1, end=rank + 1)),
        Node(("l",), "linear", ("f", "w3", "b3")),
        Node(("y",), "softmax", ("l",), attributes(axis=1)),
    )
    sparsity = {"w2": Sparsity(KGS(4, 2), Constant(mask))}
    return Graph("small", (("x", (1, 3, *(5,) * rank)),), nodes, ("y",), constants, sparsity)


@pytest.mark.parametrize("name", ["x86-64-avx512", "x86-64-sse", "cortex-a76"])
def test_a_whole_net_means_the_same_at_every_stage(name):
    p = plan(small_net(rank=2), name)
    x = np.random.default_rng(1).standard_normal((1, 3, 5, 5))
    worst = differences(p, evaluate(p, x), x)
    assert list(worst)[:2] == ["naive", "compact"]
    assert max(worst.values()) < 1e-12


def test_a_shrunk_layer_keeps_its_decisions_and_its_meaning():
    p = plan(small_net(), "x86-64-avx512")
    q = shrink(p, "t2")
    conv = next(s for s in q.steps if s.op == "conv")
    original = next(s for s in p.steps if s.name == "t2")
    assert conv.schedule.rows == original.schedule.rows
    assert conv.activation == ("tanh", ())
    assert conv.residual
    rng = np.random.default_rng(2)
    inputs = [rng.standard_normal(q.places[n].shape) for n in q.inputs]
    assert max(differences(q, evaluate(q, *inputs), *inputs).values()) < 1e-12
    with pytest.raises(PlanError, match="t2"):
        shrink(p, "p1")


def test_the_interpreter_sees_a_halo_that_nobody_wrote(monkeypatch):
    p = plan(small_net(rank=2), "x86-64-sse")
    monkeypatch.setattr("jit.launches.channelwise.margins", lambda *_: iter(()))
    with pytest.raises(Exception, match="never written"):
        interpret_plan(p, np.zeros((1, 3, 5, 5)))


def test_equal_layers_share_one_kernel():
    p = plan(small_net(rank=2), "x86-64-avx512")
    kernels = {launch.kernel for launch in launches(p, target(p.target))[0]}
    assert len(kernels) < len(launches(p, target(p.target))[0])


def test_an_empty_program_parses_back() -> None:
    program = Program("nothing", (), (), ())
    assert parse(str(program)) == program


@pytest.mark.parametrize(
    "text",
    [
        "@cached\ndef f():\n    pass",
        "def f() -> int:\n    pass",
        "def f(N: param(0, 1, 1) = 0):\n    pass",
        "def f(*N):\n    pass",
        "def f(**N):\n    pass",
        "def f():\n    for i in range(0, 3):\n        pass\n    else:\n        a = 1",
        "def f():\n    for i in range(0, 3, step=1):\n        pass",
        "def f():\n    a = True",
        "def f():\n    while a:\n        pass",
    ],
)
def test_text_that_no_program_prints_is_refused(text: str) -> None:
    """Nothing that Python's syntax would allow is passed over in silence."""
    with pytest.raises(ProgramError, match="expected"):
        parse(text)
