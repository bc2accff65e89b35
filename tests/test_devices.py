"""Devices by name."""

import pytest
from emitted import open_or_skip
from small_plans import small_plan

from jit.agent import AgentSession
from jit.artifact import build
from jit.devices import DEVICE_NAMES, open_device
from jit.executable import Executable
from jit.host import HostSession
from jit.session import DeviceError


def test_names_open_what_they_say() -> None:
    with open_device("host") as host, open_or_skip("host-isolated") as isolated:
        assert isinstance(host, HostSession)
        assert isinstance(isolated, AgentSession)
        assert (host.name, isolated.name) == ("host", "host-isolated")


@pytest.mark.parametrize(
    "name", ["", "-host", "--help", "gpu", "hosts", "host:", "qemu:", ":", "ssh"]
)
def test_unknown_names_are_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(DeviceError, match="unknown device") as error:
        open_device(name)
    for known in DEVICE_NAMES:
        assert known in str(error.value)


@pytest.mark.parametrize("name", ["host:0", "host-isolated:x"])
def test_names_that_take_nothing_say_so(name: str) -> None:
    with pytest.raises(DeviceError, match="takes nothing after a colon"):
        open_device(name)


def test_a_network_on_a_lost_device_closes_without_hiding_why() -> None:
    artifact = build(small_plan("host"))

    def interrupted() -> None:
        with open_or_skip("host-isolated") as session, Executable(artifact, session):
            session.close()  # as a call that Ctrl-C interrupts does
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
