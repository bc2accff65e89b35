"""Softmax, products, norms and cells equal NumPy at every stage, on awkward sizes and strides."""

import numpy as np
import pytest
from kernel_runs import (
    Case,
    check_everywhere,
    check_opencl,
    emit_for_every_target,
    memory,
    named,
    placed,
)

from jit.kernels.matmul import MatmulKernel
from jit.kernels.norms import LocalResponseKernel, NormKernel
from jit.kernels.recurrent import CellKernel
from jit.kernels.softmax import SoftmaxKernel
from jit.pipeline import lower


def softmax_case(kernel, shape, x_strides, y_strides, scale=3.0):
    """A SoftmaxKernel case; shape is (O, C, I)."""
    flat, x = memory(np.random.default_rng(0), shape, x_strides)
    flat *= scale
    e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    y = e / e.sum(axis=1, keepdims=True)
    params = named("", "OCI", shape) | named("X", "OCI", x_strides) | named("Y", "OCI", y_strides)
    wanted = placed(np.log(y) if kernel.log else y, y_strides)
    return Case(kernel, params, {"x": flat}, {"y": wanted})


SOFTMAXES = [
    softmax_case(SoftmaxKernel(), (3, 7, 1), (7, 1, 1), (9, 1, 1)),
    softmax_case(SoftmaxKernel(), (2, 3, 5), (15, 5, 1), (1, 10, 2)),
    softmax_case(SoftmaxKernel(log=True), (2, 3, 5), (15, 5, 1), (15, 5, 1)),
    softmax_case(SoftmaxKernel(log=True), (2, 4, 1), (4, 1, 1), (4, 1, 1), scale=60.0),
    softmax_case(SoftmaxKernel(lanes=4), (2, 3, 8), (24, 8, 1), (40, 9, 1)),
    softmax_case(SoftmaxKernel(log=True, lanes=8), (1, 5, 16), (80, 16, 1), (80, 16, 1)),
    softmax_case(SoftmaxKernel(lanes=8, dense="c"), (3, 19, 1), (19, 1, 1), (20, 1, 1)),
    softmax_case(SoftmaxKernel(log=True, lanes=4, dense="c"), (2, 3, 2), (9, 1, 4), (9, 1, 4)),
    softmax_case(SoftmaxKernel(), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
]


def matmul_case(kernel, batch, sizes, *strides):
    """A MatmulKernel case; sizes are (M, N, K), strides of (b0, b1, row, column) for a, c, y."""
    (m, n, k), rng = sizes, np.random.default_rng(1)
    a_flat, a = memory(rng, (*batch, m, k), strides[0])
    c_flat, c = memory(rng, (*batch, k, n), strides[1])
    params = named("B", "01", batch) | named("", "MNK", sizes)
    for letter, axes, numbers in zip("ACY", ("01MK", "01KN", "01MN"), strides, strict=True):
        params |= named(letter, axes, numbers)
    y = placed(a.astype(np.float64) @ c.astype(np.float64), strides[2])
    return Case(kernel, params, {"a": a_flat, "c": c_flat}, {"y": y})


PRODUCTS = [
    matmul_case(
        MatmulKernel(1, 1, False), (1, 1), (3, 5, 7), (0, 0, 7, 1), (0, 0, 5, 1), (0, 0, 5, 1)
    ),
    matmul_case(
        MatmulKernel(4, 3, True), (2, 2), (6, 8, 5), (60, 30, 5, 1), (0, 40, 8, 1), (96, 48, 8, 1)
    ),
    matmul_case(  # a transposed, c shared by the batch
        MatmulKernel(8, 2, True, vectors=2),
        *((1, 2), (4, 32, 3)),
        *((0, 12, 1, 4), (0, 0, 33, 1), (0, 140, 35, 1)),
    ),
    matmul_case(
        MatmulKernel(16, 5, False), (2, 1), (5, 16, 1), (5, 0, 1, 1), (16, 0, 16, 1), (80, 0, 16, 1)
    ),
    matmul_case(  # c transposed, y in steps
        MatmulKernel(1, 4, True), (1, 3), (4, 3, 6), (0, 24, 6, 1), (0, 18, 1, 6), (0, 1, 9, 3)
    ),
]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(h, z, s):
    r, u = (sigmoid(z[:, g] + s[:, g]) for g in (0, 1))
    return (1 - u) * np.tanh(z[:, 2] + r * s[:, 2]) + u * h


def gru_update(h, z, s):
    """With q, the product of what gru_reset made, twice s."""
    u = sigmoid(z[:, 1] + s[:, 1])
    return (1 - u) * np.tanh(z[:, 2] + 2 * s[:, 2]) + u * h


def lstm(c, z, s):
    """(new cell, new hidden state)."""
    i, f, g, o = (z[:, k] + s[:, k] for k in range(4))
    d = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return d, sigmoid(o) * np.tanh(d)


CELLS = {
    "rnn_tanh": lambda _, z, s: np.tanh(z[:, 0] + s[:, 0]),
    "rnn_relu": lambda _, z, s: np.maximum(z[:, 0] + s[:, 0], 0),
    "gru": gru,
    "gru_reset": lambda h, z, s: sigmoid(z[:, 0] + s[:, 0]) * h,
    "gru_update": gru_update,
    "lstm": lambda c, z, s: lstm(c, z, s)[1],
}


def cell_case(kernel, n, h):
    """A CellKernel case; every pitch is another, gates are further apart than H."""
    rng, gates = np.random.default_rng(2), kernel.gates
    (z_flat, z), (s_flat, s) = (
        memory(rng, (n, gates, h), strides) for strides in ((99, h, 1), (120, h + 3, 1))
    )
    state_flat, state = memory(rng, (n, h), (h + 1, 1))
    exact = [a.astype(np.float64) for a in (state, z, s)]
    params = {"N": n, "H": h, "ZN": 99, "ZG": h, "SN": 120, "SG": h + 3, "YN": h + 2}
    given, wanted = (
        {"z": z_flat, "s": s_flat},
        {"y": placed(CELLS[kernel.kind](*exact), (h + 2, 1))},
    )
    if kernel.kind == "gru_update":
        given["q"] = 2 * s_flat
        params |= {"QN": 120, "QG": h + 3}
    if kernel.kind == "lstm":
        given["c"] = state_flat
        wanted["d"] = placed(lstm(*exact)[0], (h, 1))
        params |= {"CN": h + 1, "DN": h}
    elif kernel.gates == 3:
        given["h"] = state_flat
        params["HN"] = h + 1
    return Case(kernel, params, given, wanted)


RECURRENT = [
    *(cell_case(CellKernel(kind, True), 3, 7) for kind in CELLS),
    *(cell_case(CellKernel(kind, False, lanes=4), 1, 12) for kind in CELLS),
    *(cell_case(CellKernel(kind, True, lanes=16), 2, 16) for kind in ("gru", "lstm")),
]


def norm_case(kernel, shape, x_strides, y_strides, gamma_strides=()):
    """A NormKernel case; shape is (A, B, P, Q), gamma's strides are of (b, p) or (b, p, q)."""
    rng = np.random.default_rng(3)
    x_flat, x = memory(rng, shape, x_strides)
    x_flat += np.float32(2)
    params = (
        named("", "ABPQ", shape) | named("X", "ABPQ", x_strides) | named("Y", "ABPQ", y_strides)
    )
    given, exact = {"x": x_flat}, x.astype(np.float64)
    if kernel.kind == "layer":
        exact = exact - exact.mean(axis=(2, 3), keepdims=True)
    y = exact / np.sqrt((exact**2).mean(axis=(2, 3), keepdims=True) + kernel.eps)
    params |= named("G", "BPQ"[: len(gamma_strides)], gamma_strides)
    for name in ("gamma", "beta")[: (kernel.gamma != "none") + kernel.beta]:
        given[name], values = memory(rng, shape[1 : 1 + len(gamma_strides)], gamma_strides)
        values = values.astype(np.float64).reshape((*values.shape, 1)[:3])
        y = y * values if name == "gamma" else y + values
    return Case(kernel, params, given, {"y": placed(y, y_strides)})


NORMS = [
    norm_case(  # layer norm of rows
        NormKernel("layer", 1e-5, "element", True, True),
        *((3, 1, 1, 7), (7, 0, 0, 1), (9, 0, 0, 1), (0, 0, 1)),
    ),
    norm_case(
        NormKernel("layer", 1e-5, "element", True, False, lanes=8),
        *((2, 1, 1, 29), (30, 0, 0, 1), (29, 0, 0, 1), (0, 0, 1)),
    ),
    norm_case(  # group norm of (2, 6, 5) in three groups
        NormKernel("layer", 1e-3, "row", True, True, lanes=4),
        *((2, 3, 2, 5), (30, 10, 5, 1), (30, 10, 5, 1), (2, 1)),
    ),
    norm_case(
        NormKernel("rms", 1e-6, "element", False, False, lanes=4),
        *((2, 1, 3, 4), (12, 0, 4, 1), (12, 0, 4, 1), (0, 4, 1)),
    ),
    norm_case(
        NormKernel("rms", 0.5, "none", False, True), (2, 2, 1, 3), (9, 1, 0, 3), (6, 3, 0, 1)
    ),
]


def response_case(kernel, shape, x_strides, y_strides):
    """A LocalResponseKernel case; shape is (O, C, I)."""
    flat, x = memory(np.random.default_rng(4), shape, x_strides)
    exact = x.astype(np.float64)
    y = np.empty(shape)
    for c in range(shape[1]):
        first = c - kernel.before
        window = exact[:, max(first, 0) : max(first + kernel.size, 0)]
        total = (window**2).sum(axis=1)
        y[:, c] = exact[:, c] / (kernel.k + kernel.scale * total) ** kernel.beta
    params = named("", "OCI", shape) | named("X", "OCI", x_strides) | named("Y", "OCI", y_strides)
    return Case(kernel, params, {"x": flat}, {"y": placed(y, y_strides)})


RESPONSES = [
    response_case(
        LocalResponseKernel(5, 2, 0.3, 0.75, 2.0, True), (2, 7, 3), (21, 3, 1), (1, 6, 2)
    ),
    response_case(
        LocalResponseKernel(4, 2, 0.1, 0.5, 1.0, False, lanes=4), (1, 3, 8), (24, 8, 1), (24, 8, 1)
    ),
]

ALL = [*SOFTMAXES, *PRODUCTS, *RECURRENT, *NORMS, *RESPONSES]


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.kernel.name)
def test_every_stage_and_the_code_equal_numpy(case):
    check_everywhere(case)


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.kernel.name)
def test_the_grid_equals_numpy(case, device):
    check_opencl(case, device)


@pytest.mark.parametrize("case", ALL[::2], ids=lambda c: c.kernel.name)
def test_every_target_compiles_it(case):
    emit_for_every_target(case.kernel)


def test_a_product_loads_each_factor_once_for_the_tile():
    text = str(lower(MatmulKernel(8, 4, True, vectors=2)).program)
    assert text.count(" = c[") == 1
    assert text.count(" = a[") == 1
    assert "acc = registers(4, 2, 8)" in text
