"""Normalisation: batch, layer, group, root mean square, local response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.operator import COUNT, FLOAT, Operator, Shape, per_channel, require


def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    eps: float,
) -> np.ndarray:
    """y[n,c,s] = (x[n,c,s] - mean[c]) / sqrt(var[c] + eps) * gamma[c] + beta[c].

    At inference: mean and var are those gathered in training, not of x, which is [N, C, *S].
    Ioffe and Szegedy, 2015.
    """
    gamma, beta, mean, var = (per_channel(v, x.ndim) for v in (gamma, beta, mean, var))
    return (x - mean) / np.sqrt(var + eps) * gamma + beta


def layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, *, eps: float) -> np.ndarray:
    """y = (x - mean) / sqrt(var + eps) * gamma + beta.

    mean and var (divided by the count, not by one less) are of x over as many trailing axes as
    gamma and beta have; their shape is that of those axes.  Ba, Kiros and Hinton, 2016.
    """
    return _standardised(x, _trailing(gamma), eps) * gamma + beta


def group_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, *, groups: int, eps: float
) -> np.ndarray:
    """y[n,c,s] = (x[n,c,s] - mean[n,g]) / sqrt(var[n,g] + eps) * gamma[c] + beta[c].

    mean and var (divided by the count) are of x over the channels of group g = c // (C/groups)
    and all positions; x is [N, C, *S].  With groups = C it is instance norm.  Wu and He, 2018.
    """
    grouped = x.reshape(x.shape[0], groups, -1)
    y = _standardised(grouped, (2,), eps).reshape(x.shape)
    return y * per_channel(gamma, x.ndim) + per_channel(beta, x.ndim)


def rms_norm(x: np.ndarray, gamma: np.ndarray, *, eps: float) -> np.ndarray:
    """y = x / sqrt(mean of x^2 + eps) * gamma.

    The mean is over as many trailing axes as gamma has, whose shape is that of those axes.
    Zhang and Sennrich, 2019.
    """
    return x / np.sqrt(np.mean(x**2, _trailing(gamma), keepdims=True) + eps) * gamma


def local_response_norm(
    x: np.ndarray, *, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """y[n,c,s] = x[n,c,s] / (k + alpha/size * sum over i of x[n,i,s]^2)^beta.

    i runs over the channels c - floor(size/2) to c + ceil(size/2) - 1 that there are; x is
    [N, C, *S].  This is torch's window.  ONNX's is the same for odd sizes, and for even ones its
    mirror image: there, reverse the channels before and after.  Krizhevsky et al., 2012.
    """
    channels = x.shape[1]
    total = np.zeros(x.shape)
    for c in range(channels):
        window = slice(max(0, c - size // 2), min(channels, c + -(-size // 2)))
        total[:, c] = (x[:, window] ** 2).sum(axis=1)
    return x / (k + alpha / size * total) ** beta


def _standardised(x: np.ndarray, axes: Shape, eps: float) -> np.ndarray:
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + eps)


def _trailing(gamma: np.ndarray) -> Shape:
    return tuple(range(-gamma.ndim, 0))


def _require_channels(x: Shape) -> None:
    require(len(x) >= 2, f"input {x} is not [N, C, *S]")


def _require_per_channel(x: Shape, **parameters: Shape) -> None:
    for name, shape in parameters.items():
        require(shape == (x[1],), f"{name} {shape} is not one value for each of {x[1]} channels")


def _batch_norm_shape(shapes: Sequence[Shape], _: Mapping[str, Any]) -> Shape:
    x, gamma, beta, mean, var = shapes
    _require_channels(x)
    _require_per_channel(x, gamma=gamma, beta=beta, mean=mean, var=var)
    return x


def _trailing_shape(shapes: Sequence[Shape], _: Mapping[str, Any]) -> Shape:
    x, gamma = shapes[:2]
    require(
        gamma != () and gamma == x[-len(gamma) :],
        f"gamma {gamma} does not have the shape of trailing axes of input {x}",
    )
    for beta in shapes[2:]:
        require(beta == gamma, f"beta {beta} does not have the shape of gamma {gamma}")
    return x


def _group_norm_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    (x, gamma, beta), groups = shapes, attributes["groups"]
    _require_channels(x)
    require(x[1] % groups == 0, f"{x[1]} channels do not divide into {groups} groups")
    _require_per_channel(x, gamma=gamma, beta=beta)
    return x


def _local_response_norm_shape(shapes: Sequence[Shape], _: Mapping[str, Any]) -> Shape:
    _require_channels(shapes[0])
    return shapes[0]


_LOCAL = {"size": COUNT, "alpha": FLOAT, "beta": FLOAT, "k": FLOAT}

NORMALISATION = (
    Operator("batch_norm", (5, 5), _batch_norm_shape, batch_norm, {"eps": FLOAT}),
    Operator("layer_norm", (3, 3), _trailing_shape, layer_norm, {"eps": FLOAT}),
    Operator("group_norm", (3, 3), _group_norm_shape, group_norm, {"groups": COUNT, "eps": FLOAT}),
    Operator("rms_norm", (2, 2), _trailing_shape, rms_norm, {"eps": FLOAT}),
    Operator(
        "local_response_norm", (1, 1), _local_response_norm_shape, local_response_norm, _LOCAL
    ),
)
