"""Pictures for the report: kept weights as SVG paths, clips as PNG data; nothing from outside."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refimpl.schemes import KGS, Scheme

_GAP = 1
"""Empty units between kernel groups."""

_SHOWN_FRAMES = 8


@dataclass(frozen=True)
class MaskPicture:
    """Which units of a KGS layer stay: a box per kernel group, a square per kernel position.

    Filters go down, channels go right; inside a box the kernel's planes lie below each other.

    Attributes:
        name: of the layer.
        caption: its sizes and the share that is kept.
        width, height: in units of one kernel position.
        boxes: SVG path of the kernel groups.
        kept: SVG path of the kept kernel positions.
    """

    name: str
    caption: str
    width: int
    height: int
    boxes: str
    kept: str


def mask_pictures(masks: Mapping[str, tuple[Scheme, np.ndarray]]) -> list[MaskPicture]:
    """A picture of every mask whose scheme is KGS, by the layer's name."""
    return [
        _mask_picture(name.removesuffix(".weight"), scheme, mask)
        for name, (scheme, mask) in masks.items()
        if isinstance(scheme, KGS)
    ]


def _mask_picture(name: str, scheme: KGS, mask: np.ndarray) -> MaskPicture:
    units = mask[:: scheme.gf, :: scheme.gc]  # a unit stays or goes as a whole
    strips, blocks = units.shape[:2]
    units = units.reshape(strips, blocks, -1, units.shape[-1])  # planes below each other
    down, across = units.shape[2] + _GAP, units.shape[3] + _GAP
    corners = np.argwhere(np.ones((strips, blocks), bool)) * (down, across)
    strip, block, row, column = np.nonzero(units)
    kept = np.stack([strip * down + row, block * across + column], axis=1)
    kernel = "×".join(map(str, mask.shape[2:]))
    return MaskPicture(
        name,
        f"{mask.shape[0]} filters × {mask.shape[1]} channels, kernel {kernel}: "
        f"{mask.mean():.1%} kept, in {strips}×{blocks} groups of "
        f"{scheme.gf} filters × {scheme.gc} channels",
        blocks * across - _GAP,
        strips * down - _GAP,
        _path(corners, across - _GAP, down - _GAP),
        _path(kept, 1, 1),
    )


def _path(corners: np.ndarray, width: int, height: int) -> str:
    """Rectangles of one size at (y, x) corners, as one SVG path."""
    return "".join(f"M{x} {y}h{width}v{height}h-{width}z" for y, x in corners)


def clip_picture(frames: np.ndarray) -> str:
    """Some frames of a clip (frames, H, W) in [0, 1], side by side, as a PNG data address."""
    chosen = frames[np.linspace(0, len(frames) - 1, _SHOWN_FRAMES).round().astype(int)]
    framed = np.pad(chosen, ((0, 0), (0, 0), (0, 1)), constant_values=0.5)
    return png_address((np.concatenate(framed, axis=1)[:, :-1] * 255).round().astype(np.uint8))


def png_address(image: np.ndarray) -> str:
    """A grey image, uint8 (H, W), as a `data:` address of a PNG."""
    height, width = image.shape
    lines = np.pad(image, ((0, 0), (1, 0))).tobytes()  # every line begins with filter type 0
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)  # 8 bits, grey
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
