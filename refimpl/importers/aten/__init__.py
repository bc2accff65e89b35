"""What each of torch's operators (aten) is in operators of ours: one function each, one table.

Nothing is approximated: an argument that our operators have no word for is refused.  torch is not
imported: a rule takes a `Call` and the arguments, by their names in aten's schema.
"""

from refimpl.importers.aten.arguments import Outcome, Rule, apply
from refimpl.importers.aten.attention import ATTENTION
from refimpl.importers.aten.contractions import CONTRACTIONS
from refimpl.importers.aten.elementwise import ELEMENTWISE
from refimpl.importers.aten.normalisation import NORMALISATION
from refimpl.importers.aten.pooling import POOLING
from refimpl.importers.aten.rearranging import REARRANGING
from refimpl.importers.aten.recurrent import RECURRENT
from refimpl.importers.aten.reductions import REDUCTIONS
from refimpl.importers.aten.resampling import RESAMPLING
from refimpl.importers.aten.shaping import SHAPING

RULES: dict[str, Rule] = {
    **CONTRACTIONS,
    **NORMALISATION,
    **POOLING,
    **ELEMENTWISE,
    **REDUCTIONS,
    **SHAPING,
    **REARRANGING,
    **RESAMPLING,
    **ATTENTION,
    **RECURRENT,
}
"""By the name of the operator with its overload."""

MOVING = frozenset({*SHAPING, *REARRANGING})
"""Operators that compute no value, so that they may carry indices, too."""

__all__ = ["MOVING", "RULES", "Outcome", "Rule", "apply"]
