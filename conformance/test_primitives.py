"""Every primitive, in vectors of every width, on every target: within the error it promises."""

import pytest

from conformance.backend import DeviceBackend
from conformance.primitives import Loaded, arguments, meant, worst
from conformance.suite import Suite
from jit.primitives import PRIMITIVES
from jit.session import MachineSession
from jit.target import LlvmTarget, target


@pytest.mark.parametrize("level", [0, 2])
def test_primitives(suite: Suite, target_name: str, level: int) -> None:
    """No result is further from its meaning than the table says, hard values included."""
    machine = target(target_name)
    session = suite.backend.session if isinstance(suite.backend, DeviceBackend) else None
    if not (isinstance(session, MachineSession) and isinstance(machine, LlvmTarget)):
        pytest.skip(f"{suite.backend.name} runs whole Plans only; layers cover its primitives")
    loaded = Loaded(session, machine, level)
    faults = []
    for form in loaded.forms:
        args = arguments(form, seed=1, count=round(2000 * suite.profile.share))
        computed, exact = loaded.run(form, args), meant(form, args)
        error, place = worst(PRIMITIVES[form.primitive], computed, exact)
        if error > PRIMITIVES[form.primitive].ulp:
            given = ", ".join(f"{a[place]:.9g}" for a in args)
            faults.append(
                f"{form.name}({given}) is {computed[place]:.9g} instead of {exact[place]:.9g}, "
                f"{error:.3g} ulp of {PRIMITIVES[form.primitive].ulp}"
            )
    assert not faults, "\n".join(faults)
