"""The numbers that a case is filled with: two classes, several kinds, drawn by NumPy from a seed.

*Exact* kinds are small integers, so that no partial sum rounds and the bound is 0: equality is
demanded.  *Bounded* kinds are everything else that float32 can hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, prod
from typing import ClassVar, Literal, get_args

import numpy as np

from refimpl.graph import Shape

Kind = Literal[
    "integers", "one_hot", "signed", "cancelling", "wild", "denormal", "zeros", "not_finite"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
EXACT: tuple[Kind, ...] = ("integers", "one_hot")


@dataclass(frozen=True)
class Values:
    """A kind of numbers and the seed they are drawn with.

    integers: up to 8 in size, less where sums are long, so that they stay below 2^24;
    one_hot: one 1 among zeros against weights that are all different: shows what is read;
    signed: normal; cancelling: sums near 0 of large terms; wild: sizes from 1e-15 to 1e15;
    denormal: products below the smallest normal number; zeros: mostly, of both signs;
    not_finite: a few infinities and NaN among inputs, weights and biases.
    """

    kind: Kind
    seed: int = 0

    EPS: ClassVar[float] = 2.0**-10

    def generator(self) -> np.random.Generator:
        """A fresh generator: the same case always holds the same numbers."""
        return np.random.default_rng(self.seed)

    def input(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """An input of the network, float32."""
        match self.kind:
            case "integers":
                return rng.integers(-8, 9, shape).astype(np.float32)
            case "one_hot":
                return _one_hot(rng, shape)
            case "cancelling":
                return (1000 + rng.standard_normal(shape)).astype(np.float32)
        return self._real(rng, shape)

    def weight(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """A weight (F, C, *K), float32."""
        match self.kind:
            case "integers":
                largest = min(8, max(1, isqrt(2**18 // prod(shape[1:]))))
                return rng.integers(-largest, largest + 1, shape).astype(np.float32)
            case "one_hot":
                return (rng.permutation(prod(shape)) + 1).reshape(shape).astype(np.float32)
            case "cancelling":
                weight = rng.standard_normal(shape)
                centred = weight - weight.mean(axis=tuple(range(1, len(shape))), keepdims=True)
                return centred.astype(np.float32)
        return self._real(rng, shape)

    def parameter(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """A bias, a table or another constant that is no weight, float32."""
        if self.kind in EXACT:
            return np.asarray(rng.integers(-100, 101, shape), np.float32)
        return self._real(rng, shape)

    def norm(self, rng: np.random.Generator, channels: int) -> tuple[np.ndarray, ...]:
        """gamma, beta, mean and var of a batch norm whose scale is a power of two: it folds
        into a weight without rounding."""
        gamma = rng.choice([1.0, -1.0, 2.0, 0.5], channels)
        beta, mean = rng.integers(-8, 9, (2, channels))
        var = np.full(channels, 1 - self.EPS)
        return tuple(a.astype(np.float32) for a in (gamma, beta, mean, var))

    def _real(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        numbers = np.asarray(rng.standard_normal(shape))
        match self.kind:
            case "wild":
                numbers = numbers * 10.0 ** rng.integers(-15, 16, shape)
            case "denormal":
                numbers = numbers * 10.0 ** rng.integers(-23, -18, shape)
            case "zeros":
                numbers = np.where(rng.random(shape) < 0.9, np.copysign(0.0, numbers), numbers)
            case "not_finite":
                odd = rng.choice([np.inf, -np.inf, np.nan], shape)
                numbers = np.where(rng.random(shape) < 0.02, odd, numbers)
        return numbers.astype(np.float32)


def _one_hot(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """One 1 in every image."""
    x = np.zeros((shape[0], prod(shape[1:])), np.float32)
    x[np.arange(shape[0]), rng.integers(0, x.shape[1], shape[0])] = 1
    return x.reshape(shape)
