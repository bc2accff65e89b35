"""Every primitive, in vectors of every width, on every target: within the error it promises."""

import pytest

from conformance.backend import DeviceBackend
from conformance.primitives import faults
from conformance.suite import Suite
from jit.session import MachineSession
from jit.target import LlvmTarget, target


@pytest.mark.parametrize("level", [0, 2])
def test_primitives(suite: Suite, target_name: str, level: int) -> None:
    """No result is further from its meaning than the table says, hard values included."""
    machine = target(target_name)
    session = suite.backend.session if isinstance(suite.backend, DeviceBackend) else None
    if not (isinstance(session, MachineSession) and isinstance(machine, LlvmTarget)):
        pytest.skip(f"{suite.backend.name} runs whole Plans only; layers cover its primitives")
    found = faults(session, machine, level, round(2000 * suite.profile.share))
    assert not found, "\n".join(found)
