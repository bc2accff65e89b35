"""Clips of handwritten digits that move, turn or change size; the label is the motion.

The digits are scikit-learn's (1,797 scanned 8 x 8 images, shipped inside the package), so the job
runs on real handwriting without a download.  Every frame is an affine view of one digit: the pixel
grid is mapped back into the digit and sampled bilinearly.  One of eight motions dominates; the
others are there as a slight wobble, a second, fainter digit stands still behind, and brightness
and noise vary, so that no single frame and no single cue gives the answer away.  Train and test
clips share no digit image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

MOTIONS = ("left", "right", "up", "down", "clockwise", "anticlockwise", "grow", "shrink")
FRAMES = 16
SIZE = 32
TEST_DIGITS = 500
"""How many of the digit images are kept for the test clips."""

# Per motion: which of x, y, angle, log size changes, and which way (y grows downwards).
_AXIS = np.array([0, 0, 1, 1, 2, 2, 3, 3])
_SIGN = np.array([-1, 1, -1, 1, 1, -1, 1, -1])
# By x (pixels), y (pixels), angle (radians) and log size, over a whole clip: the wobble that every
# clip has, and the least and the greatest change that makes a motion.
_WOBBLE = np.array([2.5, 2.5, 0.25, 0.15])
_LEAST = np.array([4.0, 4.0, 0.4, 0.25])
_GREATEST = np.array([12.0, 12.0, 1.2, 0.7])

_CHUNK = 32  # clips drawn at a time: the work arrays (2 MB each) stay near the cache


@dataclass(frozen=True, eq=False)
class Clips:
    """Labelled clips: `frames` float32 (n, 1, 16, 32, 32) in [0, 1], `labels` int64 (n,)."""

    frames: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def make_clips(count: int, *, split: str, seed: int) -> Clips:
    """Draw `count` clips of the `"train"` or the `"test"` digits, the same ones for a seed.

    The labels index `MOTIONS` and are as evenly spread as `count` allows.

    Raises:
        ValueError: `count` is below 1, or `split` is neither train nor test.
    """
    if count < 1:
        raise ValueError(f"The number of clips is {count}; it must be at least 1.")
    digits = _digits(split)
    rng = np.random.default_rng([seed, split == "test"])
    labels = rng.permutation(np.arange(count) % len(MOTIONS))
    moving, still = (digits[rng.integers(len(digits), size=count)] for _ in range(2))
    paths, places = _paths(labels, rng), _places(count, rng)
    light = rng.uniform(0.5, 1.0, (count, 1, 1, 1)).astype(np.float32)
    noise = rng.uniform(0.05, 0.30, (count, 1, 1, 1)).astype(np.float32)
    frames = np.empty((count, 1, FRAMES, SIZE, SIZE), np.float32)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        view = np.maximum(
            _render(moving[part], paths[part]), 0.5 * _render(still[part], places[part])
        )
        view *= light[part]
        view += noise[part] * rng.standard_normal(view.shape, dtype=np.float32)
        np.clip(view, 0, 1, out=frames[part, 0])
    return Clips(frames, labels)


def _digits(split: str) -> np.ndarray:
    """The split's digit images, float32 (n, 10, 10) in [0, 1] with a border of zeros."""
    if split not in ("train", "test"):
        raise ValueError(f'The split is {split!r}; it must be "train" or "test".')
    images = load_digits(return_X_y=True)[0].reshape(-1, 8, 8).astype(np.float32) / 16
    # A fixed shuffle of its own: the split must not depend on the seed of the clips.
    order = np.random.default_rng(0).permutation(len(images))
    chosen = order[:TEST_DIGITS] if split == "test" else order[TEST_DIGITS:]
    return np.pad(images[chosen], ((0, 0), (1, 1), (1, 1)))


def _paths(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where the moving digit is in every frame: float32 (n, frames, 4) = x, y, angle, pixel size.

    x and y are pixels from the frame's middle, the angle is in radians (positive turns clockwise
    on the screen), and the pixel size is how many frame pixels one digit pixel spans.
    """
    count = len(labels)
    middle = _spread((4, 4, 0.4, 0), count, rng)
    middle[:, 3] = np.log(rng.uniform(1.4, 2.2, count))
    change = _spread(_WOBBLE, count, rng)
    axis = _AXIS[labels]
    change[np.arange(count), axis] = _SIGN[labels] * rng.uniform(_LEAST[axis], _GREATEST[axis])
    time = np.linspace(-0.5, 0.5, FRAMES)[None, :, None]
    paths = middle[:, None, :] + time * change[:, None, :]
    paths[..., 3] = np.exp(paths[..., 3])
    return paths.astype(np.float32)


def _places(count: int, rng: np.random.Generator) -> np.ndarray:
    """Where the still digit is: float32 (n, 1, 4), as in `_paths` with one frame for all."""
    places = _spread((12, 12, 0.4, 0), count, rng)
    places[:, 3] = rng.uniform(1.4, 2.2, count)
    return places[:, None].astype(np.float32)


def _spread(
    reach: tuple[float, ...] | np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Uniform draws from -reach to reach, float64 (count, len(reach))."""
    return rng.uniform(-1, 1, (count, len(reach))) * reach


def _render(images: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """Views of the bordered images (n, 10, 10) along the paths: float32 (n, frames, H, W)."""
    x, y, angle, size = (paths[..., i, None, None] for i in range(4))
    grid = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    right, down = grid[None, :] - x, grid[:, None] - y
    cos, sin = np.cos(angle) / size, np.sin(angle) / size
    edge = images.shape[-1] - 1
    column = np.clip(cos * right + sin * down + edge / 2, 0, edge - 1e-3)
    row = np.clip(cos * down - sin * right + edge / 2, 0, edge - 1e-3)
    return _bilinear(images, row, column)


def _bilinear(images: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Image n sampled at (row, column)[n], both inside [0, edge): float32 of row's shape."""
    # int32 and float32 throughout: int64 would drag the arithmetic into float64, twice as slow.
    top, left = row.astype(np.int32), column.astype(np.int32)
    below, beside = row - top.astype(np.float32), column - left.astype(np.float32)
    width = images.shape[-1]
    first = np.arange(len(images), dtype=np.int32)[:, None, None, None] * images[0].size
    corner = first + top * width + left
    flat = images.ravel()
    upper = flat[corner] * (1 - beside) + flat[corner + 1] * beside
    lower = flat[corner + width] * (1 - beside) + flat[corner + width + 1] * beside
    return upper * (1 - below) + lower * below
