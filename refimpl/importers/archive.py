"""The container of a .pt2 file: a zip of JSON and of the bare bytes of tensors.

Nothing is unpickled, and no more is allocated than the file holds: what torch writes is stored
without compression, so anything compressed is refused.
"""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refimpl.importers import CaptureError
from refimpl.importers.exported import Known
from refimpl.importers.fields import expect, get, only
from refimpl.ops import Shape

DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16",
}  # fmt: skip
"""The names of torch's dtypes, by the numbers that files have for them."""

_STRIDED = 7
_MOST_ENTRIES = 100_000
_MOST_AXES = 32
_ZIP_ERRORS = (
    zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, struct.error, OverflowError,
)  # fmt: skip


class Archive:
    """An open .pt2 file."""

    def __init__(self, path: Path) -> None:
        """Open and check the container.

        Raises:
            CaptureError: there is no such file, or it is no .pt2 file of a known version.
        """
        self.path = path
        try:
            self.size = path.stat().st_size
            self._zip = zipfile.ZipFile(path)
            entries = self._zip.infolist()
        except _ZIP_ERRORS as error:
            raise CaptureError(f"{path} cannot be read as a .pt2 file: {error}") from error
        self._entries = self._checked(entries)
        self._root = self._found_root()
        self._require_version()

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def model(self) -> Any:
        """The parsed JSON of the one program in it.

        Raises:
            CaptureError: it has none or several, or what it has cannot be read.
        """
        folder = f"{self._root}models/"
        names = [n for n in self._entries if n.startswith(folder) and n.endswith(".json")]
        if len(names) != 1:
            raise CaptureError(f"{self.path} holds {len(names)} programs, not one")
        return self._json(names[0])

    def tensors(self) -> dict[str, Known]:
        """All parameters, buffers and constants, by name; those that are tied share one array.

        Raises:
            CaptureError: one is malformed, or together they are more than the file holds.
        """
        found: dict[str, Known] = {}
        views: dict[Any, np.ndarray] = {}
        folders = {"data/weights/": "model_weights", "data/constants/": "model_constants"}
        for folder, config in folders.items():
            name = f"{self._root}{folder}{config}_config.json"
            if name in self._entries:
                payloads = get(self._json(name), "config", dict, f"{self.path}: {config}")
                found |= {key: self._known(folder, key, p, views) for key, p in payloads.items()}
        if sum(view.nbytes for view in views.values()) > 2 * self.size:
            raise CaptureError(f"{self.path}: its tensors add up to more than the file holds")
        return found

    def _known(self, folder: str, name: str, payload: Any, views: dict[Any, np.ndarray]) -> Known:
        what = f"{self.path}: tensor {name!r}"
        if get(payload, "use_pickle", bool, what):
            # Only objects of torch's extensions are; they are never read.
            return Known(name, "pickled, and never read", None)
        meta = get(payload, "tensor_meta", dict, what)
        dtype = DTYPES.get(get(meta, "dtype", int, what), "unknown")
        place = self._root + folder + get(payload, "path_name", str, what)
        shape, strides = _sizes(meta, "sizes", what), _sizes(meta, "strides", what)
        offset = _size(get(meta, "storage_offset", dict, what), what)
        if get(meta, "layout", int, what) != _STRIDED or dtype not in _NUMPY:
            return Known(name, f"torch.{dtype}", None)
        key = place, dtype, shape, strides, offset
        if key not in views:
            views[key] = _view(self._bytes(place), dtype, shape, strides, offset, what)
        return Known(name, dtype, views[key])

    def _checked(self, entries: list[zipfile.ZipInfo]) -> Mapping[str, zipfile.ZipInfo]:
        if len(entries) > _MOST_ENTRIES:
            raise CaptureError(f"{self.path} has {len(entries)} entries, too many for a model")
        names = {entry.filename: entry for entry in entries}
        if len(names) < len(entries):
            raise CaptureError(f"{self.path} has two entries of one name")
        for name, entry in names.items():
            if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                raise CaptureError(f"{self.path} has an entry called {name!r}, which is no place")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise CaptureError(f"{self.path}: {name!r} is compressed, which torch never does")
        if sum(entry.file_size for entry in entries) > self.size:
            raise CaptureError(f"{self.path}: its entries add up to more than the file holds")
        return names

    def _found_root(self) -> str:
        roots = [n.removesuffix("archive_format") for n in self._entries]
        roots = [r for r, n in zip(roots, self._entries, strict=True) if r != n]
        if len(roots) == 1:
            return roots[0]
        if any(name.endswith("serialized_exported_program.json") for name in self._entries):
            raise CaptureError(
                f"{self.path} is of an older torch, which pickled the weights. Load it there with "
                f"torch.export.load, and save it with torch.export.save of torch 2.8 or later"
            )
        raise CaptureError(f"{self.path} is a zip, but not one that torch.export.save has written")

    def _require_version(self) -> None:
        marks = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}
        for name, wanted in marks.items():
            if self._root + name not in self._entries:
                raise CaptureError(f"{self.path} does not say its {name}")
            found = self._bytes(self._root + name)
            if found.strip() != wanted:
                raise CaptureError(f"{self.path}: its {name} is {found[:20]!r}, not {wanted!r}")

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._bytes(name))
        except (ValueError, RecursionError) as error:
            raise CaptureError(f"{self.path}: {name!r} is no JSON: {error}") from error

    def _bytes(self, name: str) -> bytes:
        if name not in self._entries:
            raise CaptureError(f"{self.path} has no {name!r}")
        try:
            return self._zip.read(self._entries[name])
        except _ZIP_ERRORS as error:
            raise CaptureError(f"{self.path}: {name!r} cannot be read: {error}") from error


_NUMPY = {
    "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64",
    "complex128", "bool",
}  # fmt: skip


def _view(
    data: bytes, dtype: str, shape: Shape, strides: Shape, offset: int, what: str
) -> np.ndarray:
    """A tensor within its storage, read-only and without a copy."""
    item = np.dtype(dtype).itemsize
    if len(data) < item or len(data) % item:
        raise CaptureError(f"{what} has {len(data)} bytes, which are not {dtype}")
    storage = np.frombuffer(data, "u1" if dtype == "bool" else dtype)
    if len(strides) != len(shape):
        raise CaptureError(f"{what} has {len(shape)} sizes and {len(strides)} strides")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 in shape or last >= storage.size or math.prod(shape) > storage.size:
        raise CaptureError(f"{what} of shape {shape} is not inside its {len(data)} bytes")
    steps = [stride * storage.itemsize for stride in strides]
    view = np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)
    return view != 0 if dtype == "bool" else view


def _sizes(meta: Any, key: str, what: str) -> Shape:
    sizes = get(meta, key, list, what)
    if len(sizes) > _MOST_AXES:
        raise CaptureError(f"{what} has {len(sizes)} axes")
    return tuple(_size(size, what) for size in sizes)


def _size(union: Any, what: str) -> int:
    kind, size = only(union, f"a size of {what}")
    if kind != "as_int":
        raise CaptureError(f"{what} has a size that is not fixed")
    if not 0 <= expect(size, int, f"a size of {what}") < 2**48:
        raise CaptureError(f"{what} has the size {size}")
    return size
