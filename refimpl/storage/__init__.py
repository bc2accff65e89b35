"""Storage formats of sparse weights, one per file; tiles are executed, the others are peers."""

from refimpl.storage.bcrc import BCRC
from refimpl.storage.blocks import index_bytes, kept_bytes, pack_blocks, pack_scheme
from refimpl.storage.csr import CSR
from refimpl.storage.fkw import FKW
from refimpl.storage.matrix import StorageError
from refimpl.storage.table import Row, compare, table

__all__ = [
    "BCRC",
    "CSR",
    "FKW",
    "Row",
    "StorageError",
    "compare",
    "index_bytes",
    "kept_bytes",
    "pack_blocks",
    "pack_scheme",
    "table",
]
