"""What every test of this folder runs under."""

import contextlib
import signal

import pytest

from jit.devices import open_device
from jit.session import DeviceError

# A run in the background of a shell inherits that Ctrl-C is ignored, and would pass that on to the
# programs that tests interrupt.
with contextlib.suppress(ValueError):  # not the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def device():
    """An OpenCL device, where there is one."""
    try:
        session = open_device("opencl")
    except DeviceError as error:
        pytest.skip(str(error))
    with session:
        yield session
