"""The table of operators: what each node of a Graph means.

Float64 in, float64 out.  `evaluate` of a row is the meaning, written to be obvious; `fast`, where
there is one, computes the same in fewer and larger steps.  Padding, sizes and the rounding of
window counts are torch's definitions; padding is always explicit, a (lo, hi) pair per axis.
"""

from refimpl.ops.activations import ACTIVATIONS
from refimpl.ops.arithmetic import ARITHMETIC
from refimpl.ops.contractions import CONTRACTIONS
from refimpl.ops.embedding import EMBEDDING
from refimpl.ops.matmul import MATMUL
from refimpl.ops.normalisation import NORMALISATION
from refimpl.ops.operator import MOST_AXES, Kind, Operator, Shape, ShapeError
from refimpl.ops.pooling import POOLING
from refimpl.ops.recurrent import RECURRENT
from refimpl.ops.reductions import REDUCTIONS
from refimpl.ops.resampling import RESAMPLING
from refimpl.ops.shaping import SHAPING
from refimpl.ops.tiled import TILED
from refimpl.ops.transposed import TRANSPOSED

_ROWS = (
    *CONTRACTIONS,
    *TRANSPOSED,
    *TILED,
    *MATMUL,
    *RECURRENT,
    *EMBEDDING,
    *POOLING,
    *NORMALISATION,
    *ACTIVATIONS,
    *ARITHMETIC,
    *REDUCTIONS,
    *SHAPING,
    *RESAMPLING,
)

OPERATORS: dict[str, Operator] = {operator.name: operator for operator in _ROWS}

__all__ = ["MOST_AXES", "OPERATORS", "Kind", "Operator", "Shape", "ShapeError"]
