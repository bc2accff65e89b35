"""Plan files: one safetensors file that holds a Plan.  Data only; loading executes nothing.

The header's metadata has one entry, `gossamer`: the JSON of

    {"format": "gossamer-plan", "version": 5, "digest": D, "plan": {...}, "weights": {...}}

where D is the SHA-256 of the whole file with zeros in D's place, `plan` the fields of
`refimpl.plan.Plan` but its arrays, and `weights` the shape of each packed weight and, per strip
and tile, its rows and columns.  Tensors: `NAME#rows`, `NAME#columns` and `NAME#values` of each
weight (float32 or float16), its tiles one after another, and `NAME#constant`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import safetensors
from safetensors.numpy import save as to_safetensors

from jit.files import write_whole
from jit.typed_json import FormError, decode, encode, text
from refimpl.graph import Constant
from refimpl.plan import Plan, PlanError, check
from refimpl.tiles import Tile, Tiles

FORMAT, VERSION = "gossamer-plan", 5
_KEY = "gossamer"
_BLANK = "0" * 64
_DTYPES = {"F32": np.dtype("<f4"), "I32": np.dtype("<i4"), "F16": np.dtype("<f2")}
_ARRAYS = ("weights", "constants")

Tensors = dict[str, np.ndarray]


class PlanFileError(ValueError):
    """A file that is not a usable plan; the message names the file and what is wrong."""


@dataclass(frozen=True)
class _Packed:
    """A packed weight without its arrays: dense shape; per strip and tile (rows, columns)."""

    shape: tuple[int, ...]
    strips: tuple[tuple[tuple[int, int], ...], ...]


# -- writing -----------------------------------------------------------------------------------


def save_plan(plan: Plan, path: str | Path) -> None:
    """Write the Plan to `path`: all of it, or nothing on any error.

    Raises:
        PlanError: the Plan is ill-formed. PlanFileError: the file cannot be written.
    """
    check(plan)
    data = plan_bytes(plan)
    try:
        write_whole(Path(path), data)
    except OSError as error:
        raise PlanFileError(f"{path} cannot be written: {error.strerror}") from error


def plan_bytes(plan: Plan) -> bytes:
    """The file of a Plan; equal Plans give equal bytes."""
    tensors: Tensors = {f"{name}#constant": c.array for name, c in plan.constants.items()}
    weights = {}
    for name, tiles in plan.weights.items():
        weights[name] = _packed(tiles)
        tensors |= _flat(name, tiles)
    described = {f.name: getattr(plan, f.name) for f in fields(Plan) if f.name not in _ARRAYS}
    head = {
        "format": FORMAT,
        "version": VERSION,
        "digest": _BLANK,
        "plan": encode(described),
        "weights": encode(weights),
    }
    ordered = dict(sorted(tensors.items()))
    data = to_safetensors(ordered, {_KEY: json.dumps(head, allow_nan=False)})
    digest = hashlib.sha256(data).hexdigest()
    return data.replace(_BLANK.encode(), digest.encode(), 1)


def _packed(tiles: Tiles) -> _Packed:
    strips = tuple(tuple((t.rows.size, t.columns.size) for t in strip) for strip in tiles.strips)
    return _Packed(tiles.shape, strips)


def _flat(name: str, tiles: Tiles) -> Tensors:
    def joined(arrays: list[np.ndarray], kind: str) -> np.ndarray:
        return np.concatenate([a.reshape(-1) for a in arrays] or [np.zeros(0)]).astype(kind)

    return {
        f"{name}#rows": joined([t.rows for t in tiles], "<i4"),
        f"{name}#columns": joined([t.columns for t in tiles], "<i4"),
        f"{name}#values": joined([t.values for t in tiles], tiles.dtype.newbyteorder("<").str),
    }


# -- reading -----------------------------------------------------------------------------------


def load_plan(path: str | Path) -> Plan:
    """The Plan in a file.

    Nothing in the file is believed: its digest, form, shapes and every rule of a Plan are checked
    before it is returned, and memory stays within a few times the file's size.

    Raises:
        PlanFileError: it cannot be read, is no plan file, is damaged, or holds an unsound Plan.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise PlanFileError(f"{path} is not a file")
        return _parse(path.read_bytes())
    except OSError as error:
        raise PlanFileError(f"{path} cannot be read: {error.strerror}") from error
    except (FormError, PlanError) as error:
        raise PlanFileError(f"{path} cannot be used: {error}") from error


def _parse(data: bytes) -> Plan:
    tensors, head = _opened(data)
    _check_head(head)
    _check_digest(data, head.get("digest"))
    _require(
        head.keys() == {"format", "version", "digest", "plan", "weights"},
        "its header has other entries than a plan file's",
    )
    weights = {
        name: _tiles(name, packed, tensors)
        for name, packed in decode(Mapping[str, _Packed], head["weights"], "weights").items()
    }
    names = [n for n in tensors if n.endswith("#constant")]
    constants = {
        text(n.removesuffix("#constant"), "a constant"): Constant(tensors.pop(n)) for n in names
    }
    _require(not tensors, f"nothing uses its tensor {min(tensors, default='')!r:.80}")
    plan = _plan(head["plan"], weights, constants)
    check(plan)
    return plan


def _opened(data: bytes) -> tuple[Tensors, dict[str, Any]]:
    """The tensors, and the JSON beside them."""
    try:
        found = safetensors.deserialize(data)
        size = int.from_bytes(data[:8], "little")
        head = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_KEY])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error)[:200] or type(error).__name__
        raise FormError(f"it is not a plan file, or is cut short ({reason})") from error
    tensors = {}
    for name, tensor in found:
        kind = _DTYPES.get(tensor["dtype"])
        _require(kind is not None, f"tensor {name!r:.80} has the type {tensor['dtype']}")
        tensors[name] = np.frombuffer(tensor["data"], kind).reshape(tensor["shape"])
    return tensors, head


def _check_head(head: Any) -> None:
    known = isinstance(head, dict) and head.get("format") == FORMAT
    _require(known, "it is not a plan file")
    _require(
        head.get("version") == VERSION,
        f"it has version {head.get('version')!r:.20} of the format, this reads {VERSION}; "
        "make it again with `gossamer plan`",
    )


def _check_digest(data: bytes, digest: Any) -> None:
    """The digest covers every byte but its own."""
    fits = isinstance(digest, str) and len(digest) == 64 and digest.isascii()
    at = data.find(digest.encode()) if fits else -1
    _require(at >= 0, "its digest is missing")
    whole = hashlib.sha256(data[:at])
    whole.update(_BLANK.encode())
    whole.update(memoryview(data)[at + 64 :])
    _require(whole.hexdigest() == digest, "it was altered or damaged: its digest is another")


def _tiles(name: str, packed: _Packed, tensors: Tensors) -> Tiles:
    """The packed weight, its arrays taken out of `tensors`."""
    sizes = [size for strip in packed.strips for size in strip]
    _require(all(min(size) >= 0 for size in sizes), f"weight {name!r} has a negative size")
    rows = _taken(tensors, f"{name}#rows", "<i4", sum(r for r, _ in sizes))
    columns = _taken(tensors, f"{name}#columns", "<i4", sum(c for _, c in sizes))
    held = tensors.get(f"{name}#values")
    kind = "<f2" if held is not None and held.dtype == "<f2" else "<f4"
    values = _taken(tensors, f"{name}#values", kind, sum(r * c for r, c in sizes))
    i = j = k = 0
    strips = []
    for strip in packed.strips:
        tiles = []
        for r, c in strip:
            block = values[k : k + r * c].reshape(c, r)
            tiles.append(Tile(rows[i : i + r], columns[j : j + c], block))
            i, j, k = i + r, j + c, k + r * c
        strips.append(tuple(tiles))
    return Tiles(packed.shape, tuple(strips))


def _taken(tensors: Tensors, name: str, dtype: str, size: int) -> np.ndarray:
    array = tensors.pop(name, None)
    _require(array is not None, f"its tensor {name!r} is missing")
    assert array is not None
    fits = array.dtype == dtype and array.shape == (size,)
    _require(fits, f"tensor {name!r} is {array.dtype} {array.shape}, not {dtype} ({size},)")
    return array


def _plan(value: Any, weights: Mapping[str, Tiles], constants: Mapping[str, Constant]) -> Plan:
    hints = {n: hint for n, hint in get_type_hints(Plan).items() if n not in _ARRAYS}
    _require(
        isinstance(value, dict) and value.keys() == hints.keys(),
        f"its plan is not an object of {', '.join(hints)}",
    )
    known = {n: decode(hint, value[n], n) for n, hint in hints.items()}
    return Plan(**known, weights=weights, constants=constants)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise FormError(problem)
