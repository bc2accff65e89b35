"""OpenCL devices: PoCL on this host's processor, or any GPU with an OpenCL 1.2 driver.

pyopencl comes with the `opencl` extra and is imported when a device is first asked for.  The
device's own compiler turns an artifact's source into code when it is placed.  A kernel that
crashes on PoCL ends this process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from jit.artifact import OpenCLArtifact
from jit.launches import Launch, Ref
from jit.opencl.grid import WORK_GROUP, work_items
from jit.pipeline import lower
from jit.placement import Placement
from jit.private import private_folder
from jit.session import CallResult, DeviceError, DeviceInfo, DeviceLost, Guard, Session, Timeout

_MAX_ELEMENTS = 2**31
"""Elements of a segment: kernels compute with 32-bit integers, which GPUs are fast at."""
_POLL_S = 5e-5


def opencl_devices() -> list[str]:
    """A line for each device, in the order in which `opencl:N` counts them.

    Raises:
        DeviceError: pyopencl is not installed.
    """
    return [_describe(device) for device in _devices(_pyopencl())]


def open_opencl(number: str | None, counting: bool) -> OpenCLSession:
    """A session on an OpenCL device.

    Args:
        number: which one, counted from 0 as `opencl_devices` lists them; None takes the first
            GPU, or the first device where there is no GPU.
        counting: instructions cannot be counted here; `Session.counting` says so.

    Raises:
        DeviceError: pyopencl is missing, or there is no such device.
    """
    del counting
    cl = _pyopencl()
    devices = _devices(cl)
    if not devices:
        raise DeviceError(
            "no OpenCL device was found; `pip install 'gossamer[opencl]'` brings "
            "PoCL, which runs on any processor"
        )
    if number is None:
        gpus = (i for i, d in enumerate(devices) if d.type & cl.device_type.GPU)
        return OpenCLSession(cl, devices, next(gpus, 0))
    if not (number.isascii() and number.isdigit() and int(number) < len(devices)):
        known = "; ".join(f"opencl:{i} is {_describe(d)}" for i, d in enumerate(devices))
        raise DeviceError(f"there is no device opencl:{number}; {known}")
    return OpenCLSession(cl, devices, int(number))


def _pyopencl() -> ModuleType:
    # PoCL keeps the code that it compiles: nobody else may replace it.
    os.environ.setdefault("POCL_CACHE_DIR", str(private_folder() / "pocl"))
    try:
        import pyopencl
    except ImportError as error:
        raise DeviceError(
            f"OpenCL devices need pyopencl ({error}); pip install 'gossamer[opencl]'"
        ) from error
    return pyopencl


def _devices(cl: ModuleType) -> list[Any]:
    try:
        return [device for platform in cl.get_platforms() for device in platform.get_devices()]
    except cl.Error:  # the loader's way to say that no driver is installed
        return []


def _describe(device: Any) -> str:
    return f"{device.name.strip()} ({device.platform.name.strip()}, {device.version.strip()})"


def _info(cl: ModuleType, device: Any) -> DeviceInfo:
    offered = device.single_fp_config
    names = {
        "fma": cl.device_fp_config.FMA,
        "inf-nan": cl.device_fp_config.INF_NAN,
        "rounded-divide": cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT,
    }
    return DeviceInfo(
        "opencl",
        frozenset(name for name, bit in names.items() if offered & bit),
        device.max_compute_units,
        device.mem_base_addr_align // 8,
        _describe(device),
    )


class OpenCLSession(Session):
    """A context and an in-order queue, with times, on one OpenCL device."""

    def __init__(self, cl: ModuleType, devices: list[Any], number: int):
        self.cl, self.device = cl, devices[number]
        super().__init__(f"opencl:{number}", _info(cl, self.device))
        with self.translated("cannot be opened"):
            self.context = cl.Context([self.device])
            timed = cl.command_queue_properties.PROFILING_ENABLE
            self.queue = cl.CommandQueue(self.context, self.device, timed)

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Turn OpenCL's errors inside the block into a DeviceError that says what was done."""
        try:
            yield
        except self.cl.Error as error:
            raise DeviceError(f"{self.name} {doing}: {error}") from error

    def build(self, source: str) -> Any:
        """The program of a source text. Raises DeviceError with the compiler's log."""
        self._check_open()
        # Sums and quotients round once: none of the options that loosen arithmetic.
        options = ["-cl-std=CL1.2"]
        if "rounded-divide" in self.info.features:
            options.append("-cl-fp32-correctly-rounded-divide-sqrt")
        with self.translated("cannot compile the kernels"):
            # pyopencl's own cache would unpickle files; drivers keep caches of their own.
            return self.cl.Program(self.context, source).build(options, cache_dir=False)

    def buffer(self, nbytes: int) -> Any:
        """A zeroed buffer."""
        self._check_open()
        with self.translated(f"cannot reserve {nbytes} bytes"):
            buffer = self.cl.Buffer(self.context, self.cl.mem_flags.READ_WRITE, nbytes)
            self.cl.enqueue_fill_buffer(self.queue, buffer, np.uint8(0), 0, nbytes)
        return buffer

    def write(self, buffer: Any, data: np.ndarray) -> None:
        """Copy a contiguous array to the start of a buffer."""
        self._check_open()
        with self.translated(f"cannot write {data.nbytes} bytes"):
            self.cl.enqueue_copy(self.queue, buffer, data)

    def read(self, buffer: Any, offset: int, nbytes: int) -> bytes:
        """Copy bytes out of a buffer."""
        self._check_open()
        data = np.empty(nbytes, np.uint8)
        with self.translated(f"cannot read {nbytes} bytes"):
            self.cl.enqueue_copy(self.queue, data, buffer, src_offset=offset)
        return data.tobytes()

    def call(
        self,
        kernels: Sequence[tuple[Any, int]],
        *,
        runs: int,
        warmup: int,
        count: bool,
        timeout_s: float,
    ) -> CallResult:
        """Run kernels, each over so many work items, one after another.

        A run lasts from its first kernel's start to its last's end, by the device's clock.
        """
        self._check_open()
        self._check_call(runs, warmup, count, timeout_s)
        until = time.monotonic() + timeout_s
        with self.translated("cannot run the kernels"):
            times = [self._once(kernels, until) for _ in range(warmup + runs)]
        return CallResult(tuple(times[warmup:]))

    def _once(self, kernels: Sequence[tuple[Any, int]], until: float) -> int:
        events = [
            self.cl.enqueue_nd_range_kernel(self.queue, kernel, (items,), (WORK_GROUP,))
            for kernel, items in kernels
        ]
        if not events:
            return 0
        self._wait(events[-1], until)
        return events[-1].profile.end - events[0].profile.start

    def _wait(self, event: Any, until: float) -> None:
        """Wait for an event, at most until that `time.monotonic()`.

        Raises:
            Timeout: it is still running; the session ends, since a kernel cannot be stopped.
            DeviceError: the device reports that it failed.
        """
        self.queue.flush()
        complete = self.cl.command_execution_status.COMPLETE
        while (status := event.command_execution_status) > complete:
            if time.monotonic() > until:
                self._closed = True  # nothing may be freed that the kernel still uses
                raise Timeout(f"{self.name}: a call did not return in time; the session has ended")
            time.sleep(_POLL_S)
        if status < 0:
            raise DeviceError(f"{self.name}: a kernel failed with OpenCL error {status}")

    def _release(self) -> None:
        with self.translated("cannot finish"):
            self.queue.finish()
        del self.queue, self.context


class OpenCLPlacement(Placement):
    """A program, a buffer per segment, and for each launch a kernel whose arguments are set."""

    def __init__(self, artifact: OpenCLArtifact, session: OpenCLSession, guard: Guard):
        super().__init__(artifact)
        if guard != "none":
            raise DeviceError(f"{session.name}: OpenCL buffers have no guard pages")
        self.session = session
        for segment, size in self.sizes.items():
            if size >= 4 * _MAX_ELEMENTS:
                raise DeviceError(
                    f"{artifact.plan.name}: segment {segment} of {size} bytes is too "
                    f"large; kernels for OpenCL count at most {_MAX_ELEMENTS} values"
                )
        self._program = session.build(artifact.source)
        self._buffers = {name: session.buffer(max(size, 4)) for name, size in self.sizes.items()}
        if artifact.constants:
            self.write("constants", np.frombuffer(artifact.constants, np.uint8))
        names = {kernel: symbol for symbol, kernel in artifact.kernels.items()}
        self._launches = [self._prepare(x, names[x.kernel]) for x in artifact.launches]

    def write(self, segment: str, data: np.ndarray) -> None:
        """Copy a contiguous array to the start of a segment."""
        self._check_open()
        self.check_inside(Ref(segment, 0), data.nbytes)
        if data.nbytes:
            self.session.write(self._buffers[segment], data)

    def read(self, ref: Ref, nbytes: int) -> bytes:
        """Copy bytes out of a segment."""
        self._check_open()
        self.check_inside(ref, nbytes)
        return self.session.read(self._buffers[ref.segment], ref.offset, nbytes)

    def call(
        self,
        begin: int,
        end: int,
        *,
        runs: int = 1,
        warmup: int = 0,
        count: bool = False,
        timeout_s: float = 600.0,
    ) -> CallResult:
        """Run launches [begin, end), timed by the device's clock."""
        self._check_open()
        return self.session.call(
            self._launches[begin:end], runs=runs, warmup=warmup, count=count, timeout_s=timeout_s
        )

    def close(self) -> None:
        """Free the memory on the device; closing twice is harmless."""
        buffers, self._buffers = self._buffers, {}
        self._launches = []
        for buffer in buffers.values():
            buffer.release()

    def _check_open(self) -> None:
        if not self._buffers:
            raise DeviceLost(f"{self.session.name}: the network was closed; load it again")

    def _prepare(self, launch: Launch, symbol: str) -> tuple[Any, int]:
        """(the kernel with its arguments, work items in whole groups)."""
        with self.session.translated(f"cannot prepare {symbol}"):
            kernel = self.session.cl.Kernel(self._program, symbol)
            program, refs = lower(launch.kernel).program, dict(launch.buffers)
            arguments: list[Any] = []
            for buffer in program.buffers:
                ref = refs[buffer.name]
                self.check_inside(ref)
                arguments += [self._buffers[ref.segment], np.int32(ref.offset // 4)]
            arguments += [np.int32(launch.params[p.name]) for p in program.params]
            for position, argument in enumerate(arguments):
                kernel.set_arg(position, argument)
        return kernel, work_items(program, launch.params)
