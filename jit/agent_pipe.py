"""One child process that is an agent or leads to one, and the exchange of messages with it.

A request gets one reply; `agent.c` describes both.  Every wait has a deadline and every reply is
bounded by what was asked.  A child that breaks the rules, or that we stopped listening to, is
killed: a stream that is out of step is worth nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import struct
import subprocess
import threading
import time
import weakref
from collections.abc import Sequence

from jit.session import DeviceError, DeviceLost

INFO, ALLOC, WRITE, READ, EXEC, CALL, FREE, QUIT = range(1, 9)
FAULT = struct.Struct("<IiQQ")
"""What follows a reply of status 1: signal, its code, address, pc."""
PATIENCE_S = 20.0
"""Silence after which a device is lost; a call has a limit of its own."""

_FAULTED = 1
_REQUEST, _REPLY = struct.Struct("<IIQQQ"), struct.Struct("<qQQ")
_CHUNK = 1 << 18
_EMPTY = memoryview(b"")
_STDERR_BYTES = 4096


class Silent(DeviceLost):
    """Nothing was heard for as long as was granted."""


class Faulted(Exception):
    """The agent reports that called code ended in a signal.

    Attributes:
        body: a packed `FAULT`.
    """

    def __init__(self, body: bytes) -> None:
        super().__init__("called code ended in a signal")
        self.body = body


class AgentPipe:
    """A child process and the messages to it; safe to share between threads.

    Raises:
        DeviceError: the command cannot be started.
    """

    def __init__(self, argv: Sequence[str], name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._said = b""  # the end of what came on standard error
        pipe = subprocess.PIPE
        try:
            # A session of its own: Ctrl-C in a terminal is for us, and we end the child.
            self._child = subprocess.Popen(
                list(argv), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise DeviceError(f"{name}: cannot start {argv[0]}: {error.strerror}") from error
        # Also runs when the pipe is collected as garbage and when the interpreter ends.
        self._end = weakref.finalize(self, _end, self._child, os.getpid())
        streams = (self._child.stdin, self._child.stdout, self._child.stderr)
        self._to, self._from, self._errors = (s.fileno() for s in streams if s is not None)
        for descriptor in (self._to, self._from, self._errors):
            os.set_blocking(descriptor, False)
        self._writable, self._readable = select.poll(), select.poll()
        self._writable.register(self._to, select.POLLOUT)
        self._readable.register(self._from, select.POLLIN)
        for poll in (self._writable, self._readable):
            poll.register(self._errors, select.POLLIN)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def ask(
        self,
        op: int,
        a: int = 0,
        b: int = 0,
        *,
        payload: memoryview = _EMPTY,
        reply_bytes: int = 0,
        patience_s: float = PATIENCE_S,
    ) -> tuple[int, bytes]:
        """Send one request; return the reply's value and its payload of `reply_bytes`.

        Raises:
            DeviceError: the agent refused; the session may go on.
            Faulted: called code ended in a signal; the session may go on.
            DeviceLost: anything else; the child is dead.
        """
        with self._lock:
            if not self._end.alive:
                raise DeviceLost(f"{self._name}: the session has ended; open the device again")
            try:
                self._send(_REQUEST.pack(op, 0, a, b, payload.nbytes))
                self._send(payload)
                status, value, length = _REPLY.unpack(self._receive(_REPLY.size, patience_s))
                allowed = {0: reply_bytes, _FAULTED: FAULT.size if op == CALL else -1}
                if status > _FAULTED or length != allowed.get(status, 0):
                    raise self._lost(f"answered nonsense (status {status}, {length} bytes)")
                body = self._receive(length, PATIENCE_S)
            except BaseException:  # Ctrl-C too: the stream is out of step
                self._end()
                raise
        if status == _FAULTED:
            raise Faulted(body)
        if status < 0:
            reason = errno.errorcode.get(-status, str(status))
            raise DeviceError(
                f"{self._name}: the device refused request {op}: {os.strerror(-status)} ({reason})"
            )
        return value, body

    def kill(self) -> None:
        """End the child now."""
        self._end()

    def close(self) -> None:
        """Ask the child to end, and see to it that it does."""
        if self._end.alive:
            with contextlib.suppress(DeviceLost), self._lock:
                self._send(_REQUEST.pack(QUIT, 0, 0, 0, 0))
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(1.0)
        self._end()

    def _send(self, data: bytes | memoryview) -> None:
        view, sent = memoryview(data), 0  # slices of a view copy nothing
        while sent < len(view):
            self._wait(self._writable, self._to, PATIENCE_S)
            try:
                sent += os.write(self._to, view[sent : sent + _CHUNK])
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._lost("ended") from None

    def _receive(self, nbytes: int, patience_s: float) -> bytes:
        received = bytearray()
        while len(received) < nbytes:
            self._wait(self._readable, self._from, patience_s)
            try:
                part = os.read(self._from, min(nbytes - len(received), _CHUNK))
            except BlockingIOError:
                continue
            if not part:
                raise self._lost("ended")
            received += part
        return bytes(received)

    def _wait(self, poll: select.poll, descriptor: int, patience_s: float) -> None:
        """Until `descriptor` is ready; what comes on standard error is kept meanwhile."""
        deadline = time.monotonic() + patience_s
        while (left := deadline - time.monotonic()) > 0:
            ready = dict(poll.poll(left * 1000))
            if self._errors in ready:
                self._listen()
            if descriptor in ready:
                return
        raise Silent(f"{self._name}: silent for {patience_s:g} s; its process was killed")

    def _listen(self) -> None:
        """Keep the end of what the child says on standard error."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._errors, _STDERR_BYTES):
                self._said = (self._said + part)[-_STDERR_BYTES:]
            for poll in (self._writable, self._readable):  # closed: polling it would spin
                with contextlib.suppress(KeyError):
                    poll.unregister(self._errors)

    def _lost(self, what: str) -> DeviceLost:
        """The error for a child that did what it must not, with all that is known of why."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(0.5)
        self._listen()
        code = self._child.returncode
        how = "" if code is None else f", {_exit_text(code)}"
        said = self._said.decode(errors="replace").strip()
        return DeviceLost(f"{self._name}: its agent {what}{how}" + (f": {said}" if said else ""))


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _end(child: subprocess.Popen[bytes], owner: int) -> None:
    """Kill and reap the child, with whatever it started; a forked copy of us leaves it alone."""
    if os.getpid() != owner:
        return
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()
