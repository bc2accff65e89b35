"""Messages between us and a peer's process: JSON and raw arrays, length-prefixed, never pickled.

    message := u64 length of head, head, array bytes ...
    head    := JSON {"body": {...}, "arrays": [[name, dtype, [size, ...]], ...]}

All little-endian; the arrays' bytes follow in the head's order.  The stream is a Unix socket pair,
which is two pipes with deadlines.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

_LENGTH = struct.Struct("<Q")
_MOST_HEAD = 1 << 24  # bytes: the text of a large network is a hundredth of it
_MOST_ARRAYS = 1 << 34  # bytes of the arrays of one message
_DTYPES = ("<f4", "<i8", "|b1")


class WireError(ConnectionError):
    """The other side ended, or sent what is no message."""


def send(stream: socket.socket, body: Mapping[str, Any], **arrays: np.ndarray) -> None:
    """Send one message; arrays are float32, int64 or bool, and may have any name.

    Raises:
        OSError: the other side is gone, or did not take it within the stream's timeout.
    """
    held = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    listed = [[name, array.dtype.str, list(array.shape)] for name, array in held.items()]
    head = json.dumps({"body": body, "arrays": listed}).encode()
    stream.sendall(_LENGTH.pack(len(head)) + head)
    for array in held.values():
        stream.sendall(array.reshape(-1).view(np.uint8).data)


def receive(stream: socket.socket) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The next message: its body and its arrays.

    Raises:
        WireError: the other side ended, or the bytes are no message.
        OSError: nothing came within the stream's timeout (TimeoutError).
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length > _MOST_HEAD:
        raise WireError(f"a head of {length} bytes")
    try:
        head = json.loads(_exactly(stream, length))
        body, listed = dict(head["body"]), [_header(item) for item in head["arrays"]]
    except (ValueError, TypeError, KeyError) as error:
        raise WireError(f"a head that is no message ({error})") from error
    if sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in listed) > _MOST_ARRAYS:
        raise WireError("more bytes of arrays than a message may have")
    return body, {name: _array(stream, dtype, shape) for name, dtype, shape in listed}


def _header(item: Any) -> tuple[str, np.dtype, tuple[int, ...]]:
    name, dtype, shape = item
    if dtype not in _DTYPES or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array of {dtype} {shape}")
    return str(name), np.dtype(dtype), tuple(shape)


def _array(stream: socket.socket, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    data = _exactly(stream, dtype.itemsize * math.prod(shape))
    return np.frombuffer(data, dtype).reshape(shape)


def _exactly(stream: socket.socket, nbytes: int) -> bytearray:
    data, got = bytearray(nbytes), 0
    view = memoryview(data)
    while got < nbytes:
        part = stream.recv_into(view[got:])
        if not part:
            raise WireError("it ended")
        got += part
    return data
