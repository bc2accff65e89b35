"""From a file to a parsed model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from refimpl.importers import CaptureError

_MOST_BYTES = 2**31 - 1  # protobuf holds no more


@dataclass(frozen=True)
class Source:
    """A parsed model and where it comes from.

    Attributes:
        model: not checked yet.
        name: of the file, or of the graph in it, for messages and for the Graph.
        folder: of the file, in which tensors may lie outside of it; None for a model in memory.
        size: of the model in bytes, without tensors outside of it.
    """

    model: onnx.ModelProto
    name: str
    folder: Path | None
    size: int


def read(model: str | Path | onnx.ModelProto) -> Source:
    """The model of a file, parsed; one that is in memory as it is.

    Raises:
        CaptureError: the file cannot be read, is larger than 2 GiB, or is not an ONNX model.
    """
    if isinstance(model, onnx.ModelProto):
        return Source(model, model.graph.name or "network", None, model.ByteSize())
    path = Path(model)
    data = _bytes(path)
    try:
        parsed = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise CaptureError(
            f"{path} is not an ONNX model, or it is cut off or damaged: {error}"
        ) from error
    if not parsed.HasField("graph"):
        raise CaptureError(f"{path} holds no graph: it is not an ONNX model, or it is empty")
    return Source(parsed, path.stem, path.parent, len(data))


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise CaptureError(f"{path} is not a file")
        if size > _MOST_BYTES:
            raise CaptureError(
                f"{path} has {size} bytes, and an ONNX model at most 2 GiB; save it with its "
                "tensors in a file beside it (onnx.save_model(..., save_as_external_data=True))"
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, CaptureError):
            raise
        raise CaptureError(f"{path} cannot be read: {error}") from error
