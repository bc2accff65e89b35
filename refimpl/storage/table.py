"""One table of every format: what each stores of one pruned weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refimpl.schemes import Scheme
from refimpl.storage.bcrc import BCRC
from refimpl.storage.blocks import index_bytes, pack_scheme, padding_of_runs
from refimpl.storage.csr import CSR
from refimpl.storage.fkw import FKW
from refimpl.storage.matrix import StorageError
from refimpl.text_table import columns

_FLOAT = 4  # bytes of a weight


@dataclass(frozen=True)
class Row:
    """A format's line: weights stored (padding included), bytes of values and of indices.

    `note` says why where a format cannot hold the weight; the numbers are None then.
    """

    format: str
    stored: int | None
    index_bytes: int | None
    note: str = ""

    @property
    def bytes(self) -> int | None:
        """Bytes in all."""
        if self.stored is None or self.index_bytes is None:
            return None
        return self.stored * _FLOAT + self.index_bytes


def compare(
    scheme: Scheme, weight: np.ndarray, mask: np.ndarray, *, parts: int = 1
) -> tuple[Row, ...]:
    """What dense storage, CSR, BCRC, FKW and tiles take; tiles also in the scheme's runs.

    Raises:
        StorageError: the mask does not fit the weight (float32), or breaks the scheme.
    """
    tiles = pack_scheme(scheme, weight, mask, parts=parts)
    csr, bcrc = CSR.pack(weight, mask), BCRC.pack(weight, mask)
    rows = [
        Row("dense", weight.size, 0),
        Row("csr", csr.stored, csr.index_bytes),
        Row("bcrc", bcrc.stored, bcrc.index_bytes),
        _fkw(weight, mask),
        Row("tiles", tiles.stored, index_bytes(tiles)),
    ]
    _, run = scheme.grain(weight.shape, parts=parts)
    if run > 1:
        stored = tiles.stored + padding_of_runs(tiles, run)
        rows.append(Row(f"tiles, runs of {run}", stored, index_bytes(tiles, run=run)))
    return tuple(rows)


def _fkw(weight: np.ndarray, mask: np.ndarray) -> Row:
    try:
        packed = FKW.pack(weight, mask)
    except StorageError as error:
        return Row("fkw", None, None, str(error))
    return Row("fkw", packed.stored, packed.index_bytes)


def table(rows: Sequence[Row]) -> str:
    """The rows as text, a line each under a heading."""
    cells = [["format", "weights", "index bytes", "bytes", ""]]
    for row in rows:
        numbers = (row.stored, row.index_bytes, row.bytes)
        cells.append([row.format, *("" if n is None else str(n) for n in numbers), row.note])
    return "\n".join(columns(cells, right=(1, 2, 3)))
