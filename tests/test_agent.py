"""The agent: crashes that end one call, silence that ends a session, nothing left behind."""

import contextlib
import gc
import os
import random
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from emitted import BAD, ISOLATED, SUM, Loaded, open_or_skip

from jit.agent import AgentSession
from jit.arm64.agent import ARCHITECTURES, DIGESTS, agent_bytes, agent_path, build
from jit.devices import open_device
from jit.host import host_arch
from jit.private import private_file, private_folder
from jit.session import Crash, DeviceError, DeviceLost, Timeout


@pytest.fixture(params=ISOLATED)
def session(request: pytest.FixtureRequest):
    with open_or_skip(request.param) as opened:
        yield opened


def gone(pid: int) -> bool:
    """Whether a process is no more (or a zombie that its parent will reap)."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


# ---- crashes ----


@pytest.mark.parametrize("nbytes", [1, 13, 4096, 5000])
def test_one_byte_too_far_is_caught(session: AgentSession, nbytes: int) -> None:
    code = Loaded(session, BAD)
    end = session.alloc(nbytes, guard="end", align=1)
    start = session.alloc(nbytes, guard="start")
    code("poke", end + nbytes - 1)
    code("peek", start)
    with pytest.raises(Crash) as over:
        code("poke", end + nbytes)
    assert over.value.signal == "SIGSEGV"
    assert over.value.address == end + nbytes
    with pytest.raises(Crash) as under:
        code("peek", start - 1)
    assert under.value.address == start - 1
    with pytest.raises(Crash):
        code("peek16", end + nbytes - 15)


def test_a_crash_names_its_place_and_the_session_goes_on(session: AgentSession) -> None:
    code = Loaded(session, SUM, BAD)
    out = session.alloc(8)
    for _ in range(50):
        with pytest.raises(Crash) as crash:
            code("poke", 16)
        assert crash.value.signal == "SIGSEGV"
        assert crash.value.address == 16
        assert crash.value.where is not None
        assert crash.value.where.startswith("poke+0x")
        assert code.base <= crash.value.pc < code.base + len(code.blob.code)
        assert "SIGSEGV at poke+0x" in str(crash.value)
        assert session.name in str(crash.value)
        code("bump", out)
    assert int.from_bytes(session.read(out, 8), "little") == 50


def test_every_kind_of_crash_ends_only_its_call(session: AgentSession) -> None:
    code = Loaded(session, SUM, BAD)
    out = session.alloc(8)
    trap = {"x86_64": "SIGILL", "aarch64": "SIGTRAP"}[session.info.arch]
    for name, argument, expected in (
        ("trap", 0, trap),
        ("deep", 0, "SIGSEGV"),
        ("jump", 0, "SIGSEGV"),
        ("jump", out, "SIGSEGV"),
        ("poke", code.base, "SIGSEGV"),
    ):
        with pytest.raises(Crash) as crash:
            code(name, argument)
        assert crash.value.signal == expected, name
        code("bump", out)
    assert int.from_bytes(session.read(out, 8), "little") == 5


def test_a_crash_in_a_local_function_is_placed_in_it(session: AgentSession) -> None:
    code = Loaded(session, BAD)
    with pytest.raises(Crash) as crash:
        code("touch", 8)
    assert crash.value.where is not None
    assert crash.value.where.startswith("touch+0x")


def test_an_address_that_the_processor_does_not_tell_is_none() -> None:
    with open_or_skip("host-isolated") as session:
        if session.info.arch != "x86_64":
            pytest.skip("only x86-64 has addresses that are not canonical")
        with pytest.raises(Crash) as crash:
            Loaded(session, BAD)("poke", 0x1234_0000_0000_0000)
        assert crash.value.signal == "SIGSEGV"
        assert crash.value.address is None


def test_code_is_never_writable_and_executable_at_once() -> None:
    with open_or_skip("host-isolated") as session:
        assert isinstance(session, AgentSession)
        code = Loaded(session, SUM)
        lines = Path(f"/proc/{session.pid}/maps").read_text().splitlines()
        assert not [line for line in lines if "wx" in line.split()[1]]
        assert [line for line in lines if line.startswith(f"{code.base:x}-") and " r-xp" in line]


# ---- silence and loss ----


def test_an_endless_loop_ends_in_a_timeout_and_a_dead_process(session: AgentSession) -> None:
    code = Loaded(session, BAD)
    begin = time.monotonic()
    with pytest.raises(Timeout, match=r"spin\+0x0 did not return within 0.2 s.*killed"):
        code("spin", timeout_s=0.2)
    assert time.monotonic() - begin < 5
    assert gone(session.pid)
    with pytest.raises(DeviceLost, match="open the device again"):
        code("spin")


def test_a_killed_agent_is_a_lost_device(session: AgentSession) -> None:
    os.kill(session.pid, signal.SIGKILL)
    assert gone(session.pid)
    with pytest.raises(DeviceLost, match="its agent ended, killed by SIGKILL"):
        session.alloc(8)
    with pytest.raises(DeviceLost, match="open the device again"):
        session.alloc(8)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import sys; sys.exit('no such board')", r"ended, exit code 1: no such board"),
        ("import sys; sys.stdout.write('Welcome!'*9); sys.stdout.flush(); input()", "nonsense"),
        ("import sys; sys.stdout.buffer.write(bytes(16) + b'\\xff'*8); input()", "ended|nonsense"),
        (
            "import sys; sys.stdout.buffer.write(bytes(16)+b'h'+bytes(7)+bytes(104))",
            "version 0 on 0",
        ),
        ("import sys; sys.stderr.write('x' * 1000000)", r"exit code 0: x"),
    ],
)
def test_what_is_no_agent_is_refused(script: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        AgentSession(
            [sys.executable, "-c", script], "aarch64", name="board", label="", no_counting=None
        )


def test_a_command_that_cannot_start_is_refused() -> None:
    for command in (["/nonexistent/agent"], ["/etc/passwd"]):
        with pytest.raises(DeviceError, match=f"board: cannot start {command[0]}"):
            AgentSession(command, "aarch64", name="board", label="", no_counting=None)


def test_a_silent_device_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jit.agent_pipe.AgentPipe.ask.__kwdefaults__", {
        "payload": memoryview(b""), "reply_bytes": 0, "patience_s": 0.2,
    })  # fmt: skip
    with pytest.raises(DeviceLost, match=r"silent for 0\.2 s"):
        AgentSession(["sleep", "60"], "aarch64", name="board", label="", no_counting=None)


def test_an_agent_of_another_architecture_is_refused() -> None:
    other = next(arch for arch in ARCHITECTURES if arch != host_arch())
    with pytest.raises(DeviceError, match=f"version 2 on {host_arch()}; expected version 2 on"):
        AgentSession(
            [str(agent_path(host_arch()))], other, name="board", label="", no_counting=None
        )


def test_no_process_stays_behind() -> None:
    closed = open_or_skip("host-isolated")
    closed.close()
    collected = open_or_skip("host-isolated")
    assert isinstance(closed, AgentSession)
    assert isinstance(collected, AgentSession)
    pids = [closed.pid, collected.pid]
    del collected
    gc.collect()
    with contextlib.suppress(ZeroDivisionError), open_or_skip("host-isolated") as failing:
        pids.append(failing.pid)
        _ = 1 / 0
    assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_stays_behind_when_the_client_is_stopped(how: signal.Signals) -> None:
    """Ctrl-C in the middle of a call, and a client that is killed while its agent waits."""
    script = """
        import signal, sys, time
        # A run in the background of a shell inherits that Ctrl-C is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.path.insert(0, "tests")
        from emitted import BAD, Loaded, open_device
        session = open_device("host-isolated")
        code = Loaded(session, BAD)
        print(session.pid, flush=True)
        code("spin") if sys.argv[1] == "2" else time.sleep(60)
    """
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(int(how))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    time.sleep(0.2)
    client.send_signal(how)
    _, errors = client.communicate(timeout=30)
    assert client.returncode == (-how if how == signal.SIGKILL else client.returncode)
    assert ("KeyboardInterrupt" in errors) == (how == signal.SIGINT)
    assert gone(pid)


# ---- the protocol itself ----

REQUEST, REPLY = struct.Struct("<IIQQQ"), struct.Struct("<qQQ")


class Raw:
    """Messages to a host agent with no client in between to check them."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([str(agent_path(host_arch()))], stdin=pipe, stdout=pipe)

    def ask(self, op: int, a: int = 0, b: int = 0, payload: bytes = b"") -> tuple[int, int, bytes]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(REQUEST.pack(op, 0, a, b, len(payload)) + payload)
        self.process.stdin.flush()
        status, value, length = REPLY.unpack(self.process.stdout.read(REPLY.size))
        return status, value, self.process.stdout.read(length)

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_the_agent_refuses_what_is_out_of_range() -> None:
    call = struct.Struct("<Q4I9Q")
    with Raw() as agent:
        _, address, size = agent.ask(2, 100)
        assert int.from_bytes(size, "little") % 4096 == 0
        pages = int.from_bytes(size, "little")
        for op, a, b, payload, errno in (
            (2, 0, 0, b"", 22),  # nothing to reserve
            (2, 2**64 - 1, 0, b"", 22),
            (3, address + pages - 1, 0, b"ab", 14),  # one byte too far
            (3, address - 1, 0, b"a", 14),
            (3, 0, 0, bytes(100_000), 14),  # its payload is read and thrown away
            (4, address, pages + 1, b"", 14),
            (4, address, 2**64 - 1, b"", 14),
            (4, 2**64 - 1, 2, b"", 14),
            (5, address + 1, 0, b"", 14),
            (7, address + 8, 0, b"", 14),
            (6, 0, 0, bytes(3), 22),
            (6, 0, 0, call.pack(address, 1, 0, 0, 5, *[0] * 9), 14),  # not executable
            (1, 0, 0, bytes(3), 22),
            (99, 0, 0, b"", 38),
        ):
            assert agent.ask(op, a, b, payload) == (-errno, 0, b""), (op, a, b)
        assert agent.ask(5, address)[0] == 0
        assert agent.ask(3, address, 0, b"ab")[0] == -14  # executable, so never written again
        for runs, warmup, limit in ((0, 0, 5), (65537, 0, 5), (1, 65537, 5), (1, 0, 0)):
            body = call.pack(address, runs, warmup, 0, limit, *[0] * 9)
            assert agent.ask(6, 0, 0, body) == (-22, 0, b"")
        for count, team, errno in (
            (0, (257, address, address), 22),
            (1, (2, address, address), 22),  # instructions of several threads are not counted
            (0, (2, address, 0), 14),
            (0, (2, 0, address), 14),
        ):
            body = call.pack(address, 1, 0, count, 5, *[0] * 6, *team)
            assert agent.ask(6, 0, 0, body) == (-errno, 0, b"")
        assert agent.ask(7, address)[0] == 0
        assert agent.ask(7, address)[0] == -14


def test_the_agent_outlives_random_requests() -> None:
    rng = random.Random(3)
    with Raw() as agent:
        known = [0, 2**63, 2**64 - 1]
        for _ in range(2000):
            op = rng.choice([1, 2, 3, 4, 5, 6, 7, 9, 2**32 - 1])
            a = rng.choice(known) + rng.choice([0, 0, 1, 4095])
            if op == 2:
                a = rng.choice([0, 1, 4096, 70_000, 2**64 - 1])
            payload = rng.randbytes(rng.choice([0, 1, 63, 64, 72, 5000])) if op != 5 else b""
            status, value, body = agent.ask(op, a % 2**64, rng.choice([0, 1, 4096]), payload)
            assert status <= 0
            assert len(body) <= 4096
            if op == 2 and status == 0:
                known.append(value)
        assert agent.ask(1)[0] == 0


def test_the_agent_ends_itself_when_a_call_outlasts_its_client() -> None:
    jump_to_self = {"x86_64": b"\xeb\xfe", "aarch64": b"\0\0\0\x14"}[host_arch()]
    with Raw() as agent:
        _, address, _ = agent.ask(2, 2)
        agent.ask(3, address, 0, jump_to_self)
        agent.ask(5, address)
        body = struct.pack("<Q4I9Q", address, 1, 0, 0, 1, *[0] * 9)
        assert agent.process.stdin is not None
        agent.process.stdin.write(REQUEST.pack(6, 0, 0, 0, len(body)) + body)
        agent.process.stdin.flush()
        assert agent.process.wait(10) == -signal.SIGALRM


# ---- what ships ----


def test_the_shipped_agents_are_what_their_source_builds() -> None:
    reason = build.unavailable()
    if reason:
        pytest.skip(f"the agents are not rebuilt here: {reason}")
    build.check()


def test_a_damaged_agent_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arch in ARCHITECTURES:
        (tmp_path / f"agent-{arch}").write_bytes(agent_bytes(arch)[:-1] + b"!")
    (tmp_path / DIGESTS).write_text(Path(build.__file__).with_name(DIGESTS).read_text())
    monkeypatch.setattr("jit.arm64.agent.resources.files", lambda _: tmp_path)
    agent_bytes.cache_clear()
    try:
        with pytest.raises(DeviceError, match="not the one that was shipped; reinstall"):
            agent_path("aarch64")
        (tmp_path / "agent-aarch64").unlink()
        with pytest.raises(DeviceError, match="agent-aarch64 is missing; reinstall"):
            agent_path("aarch64")
    finally:
        agent_bytes.cache_clear()
    with pytest.raises(DeviceError, match="no agent is built for riscv"):
        agent_path("riscv")


def test_what_is_run_lies_in_a_private_folder_and_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = agent_path("x86_64")
    assert path.parent == private_folder() == tmp_path / "gossamer"
    assert path.stat().st_mode & 0o777 == path.parent.stat().st_mode & 0o777 == 0o700
    path.write_bytes(b"#!/bin/sh\n")
    assert agent_path("x86_64").read_bytes() == agent_bytes("x86_64")
    path.parent.chmod(0o777)
    assert private_folder().stat().st_mode & 0o777 == 0o700
    assert private_file("f", b"1").read_bytes() == b"1"
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, "f"])


def test_a_folder_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DeviceError, match=r"cannot use .*file/gossamer.*set XDG_CACHE_HOME"):
        open_device("host-isolated")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "gossamer").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DeviceError, match="not a folder of this user's"):
        open_device("host-isolated")


def test_condition_is_told_or_none(session: AgentSession) -> None:
    condition = session.condition()
    assert condition.clock_khz is None or condition.clock_khz > 0
    assert condition.celsius is None or -50 < condition.celsius < 150
