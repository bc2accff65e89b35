"""The arrays of a model: tensors in it, beside it and sparse ones, none larger than its bytes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from onnx import SparseTensorProto, TensorProto

from refimpl.importers import CaptureError
from refimpl.importers.onnx.call import MOST_AXES, Budget
from refimpl.importers.onnx.folding import TYPES

_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}
_DATA = ("float_data", "double_data", "int64_data", "uint64_data", "int32_data", "string_data")


class Tensors:
    """Reads tensors of one model."""

    def __init__(self, folder: Path | None, budget: Budget) -> None:
        """Args: where the model lies, and what it may grow to as it is read."""
        self.folder = folder
        self.budget = budget

    def array(self, tensor: TensorProto, what: str) -> np.ndarray:
        """The values of a tensor.

        Args:
            tensor: of any of the types that `folding.TYPES` lists.
            what: how messages call it.

        Raises:
            CaptureError: its type is another, or its data do not fit its shape and type.
        """
        shape, dtype = tuple(tensor.dims), self._dtype(tensor, what)
        if len(shape) > MOST_AXES or min(shape, default=0) < 0:
            raise CaptureError(f"{what} has the shape {shape[:9]}, which no tensor has")
        if tensor.HasField("segment"):
            raise CaptureError(f"{what} is one segment of a tensor; save the model in one piece")
        if tensor.data_location == TensorProto.EXTERNAL:
            raw = self._outside(tensor, what, math.prod(shape) * dtype.itemsize)
        elif tensor.HasField("raw_data"):
            raw = tensor.raw_data
        else:
            return _listed(tensor, what, shape, dtype)
        if any(len(getattr(tensor, field)) for field in _DATA):
            raise CaptureError(f"{what} has its data twice")
        return _from_bytes(raw, what, shape, dtype)

    def dense(self, tensor: SparseTensorProto, what: str) -> np.ndarray:
        """The values of a sparse tensor, zeros included.

        Raises:
            CaptureError: its indices are not of its shape, or it is large and nearly empty.
        """
        shape = tuple(tensor.dims)
        if len(shape) > MOST_AXES or min(shape, default=0) < 0:
            raise CaptureError(f"{what} has the shape {shape[:9]}, which no tensor has")
        values = self.array(tensor.values, f"values of {what}")
        indices = self.array(tensor.indices, f"indices of {what}")
        if not self.budget.spend(shape, values.dtype):
            raise CaptureError(f"{what} of shape {shape} is too large to be read densely")
        array = np.zeros(shape, values.dtype)
        array[_places(indices, values, shape, what)] = values
        return array

    def _dtype(self, tensor: TensorProto, what: str) -> np.dtype:
        if tensor.data_type not in TYPES:
            raise CaptureError(f"{what} is {type_name(tensor.data_type)}, which cannot be captured")
        return TYPES[tensor.data_type]

    def _outside(self, tensor: TensorProto, what: str, wanted: int) -> bytes:
        """The bytes of a tensor in another file, which must lie in the model's folder."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        path = self._path(entries.get("location", ""), what)
        offset = _number(entries, "offset", 0, what)
        length = _number(entries, "length", wanted, what)
        if length != wanted:
            raise CaptureError(f"{what} says it has {length} bytes; its shape and type, {wanted}")
        try:
            if offset + length > path.stat().st_size:
                raise CaptureError(f"{what} ends behind the end of {path.name}")
            with path.open("rb") as file:
                file.seek(offset)
                self.budget.grow(length)
                return file.read(length)
        except OSError as error:
            raise CaptureError(
                f"{what} lies in {path.name}, which is unreadable: {error}"
            ) from error

    def _path(self, location: str, what: str) -> Path:
        if self.folder is None:
            raise CaptureError(f"{what} lies outside the model; capture the file, not the model")
        place = f"{what} lies in {location[:200]!r}"
        # What is not UTF-8 comes as bytes.
        if (
            not isinstance(location, str)
            or not location
            or not location.isprintable()
            or "\\" in location
        ):
            raise CaptureError(f"{place}, which is no path")
        folder = self.folder.resolve()
        try:
            path = (folder / location).resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise CaptureError(f"{place}, which does not exist beside the model") from error
        # Resolved, it is what was written unless a link or a ".." leads elsewhere.
        if path != folder / location or not path.is_relative_to(folder) or not path.is_file():
            raise CaptureError(f"{place}, which is not a plain file in the model's folder")
        return path


def type_name(number: int) -> str:
    """What ONNX calls an element type."""
    known = number in TensorProto.DataType.values()
    return TensorProto.DataType.Name(number).lower() if known else f"of the unknown type {number}"


def _number(entries: dict[str, str], key: str, missing: int, what: str) -> int:
    text = entries.get(key, str(missing))
    # Not int(): it takes signs, spaces, underscores and other scripts' digits.
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 20):
        raise CaptureError(f"{what} has the {key} {text[:40]!r}, which is no number of bytes")
    return int(text)


def _from_bytes(raw: bytes, what: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    wanted = math.prod(shape) * dtype.itemsize
    if len(raw) != wanted:
        raise CaptureError(f"{what} has {len(raw)} bytes; its shape {shape} and type, {wanted}")
    if dtype == np.bool_:
        return (np.frombuffer(raw, np.uint8) != 0).reshape(shape)
    return np.frombuffer(raw, dtype).reshape(shape)


def _listed(tensor: TensorProto, what: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Values written one by one, in the field for their type."""
    field = _FIELDS.get(tensor.data_type, "int32_data")
    values = getattr(tensor, field)
    others = [name for name in _DATA if name != field and len(getattr(tensor, name))]
    if len(values) != math.prod(shape) or others:
        raise CaptureError(
            f"{what} has {len(values)} values in {field}, its shape {shape} {math.prod(shape)}"
            + (f"; and some in {others[0]}" if others else "")
        )
    if dtype == np.float16:
        return np.array(values, np.int64).astype(np.uint16).view(np.float16).reshape(shape)
    array = np.array(values, dtype if dtype.kind == "f" else np.int64 if dtype != "u8" else dtype)
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise CaptureError(f"{what} has values that are no {dtype}")
    return array.astype(dtype).reshape(shape)


def _places(
    indices: np.ndarray, values: np.ndarray, shape: tuple[int, ...], what: str
) -> tuple[np.ndarray, ...]:
    """Where the values of a sparse tensor go: linear places, or one index per axis."""
    count = values.size
    if indices.dtype != np.int64 or values.shape != (count,):
        raise CaptureError(f"{what} has indices of {indices.dtype} or values that are no list")
    if indices.shape == (count,):
        places, limits = indices[:, None], (math.prod(shape),)
    elif indices.shape == (count, len(shape)):
        places, limits = indices, shape
    else:
        raise CaptureError(f"{what} has indices {indices.shape} for {count} values of {shape}")
    if count and ((places < 0).any() or (places >= np.array(limits)).any()):
        raise CaptureError(f"{what} has indices outside of its shape {shape}")
    if places.shape[1] == len(shape):
        return tuple(places.T)
    return np.unravel_index(places[:, 0], shape) if count else (np.zeros(0, np.int64),) * len(shape)
