"""Operators that move values, against torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from operators import agree, draw_array, run


def test_shaping_is_torchs():
    x, y = draw_array(0, (2, 3, 4, 5)), draw_array(1, (2, 1, 4, 5))
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    agree(run("concat", x, y, x, axis=1), torch.cat([a, b, a], 1))
    agree(run("reshape", x, shape=(6, 20)), a.reshape(6, 20))
    agree(run("flatten", x, start=1, end=2), a.flatten(1, 2))
    agree(run("transpose", x, order=(3, 0, 2, 1)), a.permute(3, 0, 2, 1))
    agree(run("transpose", np.array(2.0), order=()), torch.tensor(2.0, dtype=torch.float64))
    agree(run("slice", x, axis=3, start=1, step=2, size=2), a[..., 1:5:2])
    agree(run("slice", x, axis=1, start=2, step=-1, size=3), a.flip(1))
    agree(run("expand", y, shape=(7, 2, 3, 4, 5)), b.expand(7, 2, 3, 4, 5))
    agree(run("take", x, axis=2, indices=(3, 0, 0)), a[:, :, [3, 0, 0]])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize("padding", [((0, 0),), ((2, 0), (0, 4)), ((1, 0), (2, 1), (0, 3))])
def test_pad_is_torchs(mode, padding):
    x = draw_array(0, (2, 3, *(4 + i for i in range(len(padding)))))
    value = 2.5 if mode == "constant" else 0.0
    names = {"edge": "replicate", "wrap": "circular"}
    backwards = [side for pair in reversed(padding) for side in pair]
    theirs = F.pad(torch.from_numpy(x), backwards, names.get(mode, mode), value or None)
    agree(run("pad", x, padding=((0, 0), (0, 0), *padding), mode=mode, value=value), theirs)


def test_pad_reaches_every_axis_and_holds_infinities():
    padded = run("pad", np.ones(1), padding=((1, 0),), mode="constant", value=-np.inf)
    np.testing.assert_array_equal(padded, [-np.inf, 1.0])
    x = np.array([[1.0], [2.0]])
    wrapped = run("pad", x, padding=((2, 1), (0, 1)), mode="wrap", value=0.0)
    np.testing.assert_array_equal(wrapped, np.repeat([[1.0], [2.0], [1.0], [2.0], [1.0]], 2, 1))
