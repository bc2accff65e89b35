"""What the public functions raise.

Every error says what is wrong with which layer, file or device, and the way out, in one sentence.

    except gossamer.ERRORS as error:
        print(error)
"""

from __future__ import annotations

from jit.inputs import InputError
from jit.linker import LinkError
from jit.plan_file import PlanFileError
from jit.session import DeviceError
from jit.target import TargetError
from jit.tune import TableError
from refimpl.graph import GraphError
from refimpl.importers import CaptureError
from refimpl.layout import LayoutError
from refimpl.plan import PlanError
from refimpl.schemes import SchemeError
from refimpl.tiles import TilesError


class ModelError(ValueError):
    """A model, layer or argument that the front door cannot use; the message says what can be."""


ERRORS: tuple[type[Exception], ...] = (
    CaptureError,
    DeviceError,
    GraphError,
    InputError,
    LayoutError,
    LinkError,
    ModelError,
    PlanError,
    PlanFileError,
    SchemeError,
    TableError,
    TargetError,
    TilesError,
)
"""Every error of the public functions that is about what they were given; `prune`'s is one, too."""
