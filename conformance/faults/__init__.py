"""Faults to plant in the compiler: a suite that misses them is not worth its time.

Each fault is one small mistake of the kind that people make in such code.  `planted` puts it in
place for the duration of a block.
"""

from conformance.faults.mistakes import FAULTS
from conformance.faults.plants import Fault, planted

__all__ = ["FAULTS", "Fault", "planted"]
