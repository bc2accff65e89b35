"""Operators that move values, against torch."""

import torch
from operators import agree, draw_array, run


def test_shaping_is_torchs():
    x, y = draw_array(0, (2, 3, 4, 5)), draw_array(1, (2, 1, 4, 5))
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    agree(run("concat", x, y, x, axis=1), torch.cat([a, b, a], 1))
    agree(run("reshape", x, shape=(6, 20)), a.reshape(6, 20))
    agree(run("flatten", x, start=1, end=2), a.flatten(1, 2))
