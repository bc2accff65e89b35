"""Networks on several threads: the same results, whoever is late; and nothing left behind."""

import gc
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from emitted import BAD, SUM, emit, open_or_skip
from small_plans import small_graph, small_plan
from test_compile_operators import CASES, graph_of

import jit.decide
from jit.artifact import build
from jit.executable import Executable, open_executable
from jit.host import HostSession
from jit.linker import link
from jit.llvm import emit_object
from jit.placement import MachinePlacement
from jit.rounds import turns
from jit.session import Crash, DeviceError, Timeout
from jit.target import llvm_target, target_names
from jit.team import TeamPlace
from jit.walker import RUN, team_bytes, team_object

THREADS = threading.active_count


def on(plan, threads):
    """The Plan for several threads, every step divided however small it is."""
    steps = tuple(replace(step, tasks=threads) for step in plan.steps)
    return replace(plan, threads=threads, steps=steps)


def ran(plan, *inputs):
    with open_executable(plan, "host") as net:
        return net(*inputs)


def same(found, wanted):
    return all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def values_for(plan, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (plan.places[name].shape for name in plan.inputs)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


class Late:
    """Runs a plan on one thread as a team may: in every round the last member comes first."""

    def __init__(self, plan):
        artifact = build(plan)
        self.net = Executable(artifact, HostSession(), owns_session=True)
        self.placement = self.net._placement
        assert isinstance(self.placement, MachinePlacement)
        symbols = {kernel: symbol for symbol, kernel in artifact.kernels.items()}
        pairs = [(x, artifact.signatures[symbols[x.kernel]]) for x in artifact.launches]
        self.turns = turns(pairs, {step.name: step.tasks for step in plan.steps})

    def rounds(self):
        """The launches of every round."""
        found = [[]]
        for i, turn in enumerate(self.turns):
            if turn.waits:
                found.append([])
            found[-1].append(i)
        return found

    def __call__(self, *inputs):
        self.net.feed(*inputs)
        size = self.placement.sizes["arena"]
        self.placement.write("arena", np.full(size // 4, np.nan, np.float32))
        for launches in self.rounds():
            for member in reversed(range(self.net.plan.threads)):
                for i in launches:
                    if member < len(self.turns[i].shares):
                        self.walk(member, i)
        return self.net.results()

    def walk(self, member, launch):
        """One launch's share: the last row of its part of the member's table."""
        address, count = self.placement._tables[member].part(launch, launch + 1)
        walker = self.placement._symbol("run")
        self.net.session.call(walker, (address + 24 * (count - 1), 1))


@pytest.mark.parametrize(("op", "shapes", "attributes"), CASES)
def test_every_operator_gives_the_same_bits_whoever_is_late(op, shapes, attributes):
    graph, inputs = graph_of(op, shapes, attributes)
    alone = jit.decide.plan(graph, "host")
    wanted = ran(alone, *inputs)
    for threads in (2, 3):
        late = Late(on(alone, threads))
        with late.net:
            assert same(late(*inputs), wanted)
            assert same(late.net(*inputs), wanted)


@pytest.mark.parametrize(
    "sizes",
    [
        {"filters": 19, "channels": 18, "size": 9},
        {"filters": 67, "channels": 33, "size": 13, "stride": 2},
        {"filters": 1, "channels": 1, "size": 3, "sparse": False},
    ],
    ids=str,
)
def test_a_network_gives_the_same_bits_on_any_number_of_threads(sizes):
    alone = small_plan("host", **sizes)
    inputs = values_for(alone)
    wanted = ran(alone, *inputs)
    for threads in (2, 3, 7):
        late = Late(on(alone, threads))
        with late.net:
            assert same(late(*inputs), wanted)
            for _ in range(20):
                assert same(late.net(*inputs), wanted)


def test_a_late_member_shows_where_nobody_waits():
    """The proof above is worth something: without barriers it fails."""
    alone = small_plan("host", filters=19, size=9)
    inputs = values_for(alone)
    wanted = ran(alone, *inputs)
    late = Late(on(alone, 3))  # two would take an image each and never meet
    late.turns = [replace(turn, waits=False) for turn in late.turns]
    with late.net:
        assert not same(late(*inputs), wanted)


def test_steps_can_be_run_and_timed_by_themselves():
    alone = small_plan("host", filters=19, size=9)
    inputs = values_for(alone)
    with open_executable(on(alone, 2), "host") as net, open_executable(alone, "host") as one:
        for a, b in zip(net.steps(*inputs, poison=True), one.steps(*inputs), strict=True):
            assert a == b
            assert np.array_equal(net.value(a), one.value(b))
        times = net.profile(*inputs, runs=3)
    assert [t.step for t in times] == [step.name for step in alone.steps]
    assert all(len(t.nanoseconds) == 3 for t in times)


def test_threads_start_with_the_first_call_and_end_with_the_network():
    before = THREADS()
    plan = on(small_plan("host"), 4)
    net = open_executable(plan, "host")
    assert THREADS() == before
    net(*values_for(plan))
    assert THREADS() == before + 3
    net.close()
    net.close()
    assert THREADS() == before


def test_threads_end_with_the_session_and_when_nobody_holds_it():
    before = THREADS()
    plan = on(small_plan("host"), 2)
    session = HostSession()
    first, second = (Executable(build(plan), session) for _ in range(2))
    for net in (first, second):
        net(*values_for(plan))
    assert THREADS() == before + 2
    first.close()
    assert THREADS() == before + 1
    session.close()
    assert THREADS() == before
    second.close()
    third = open_executable(plan, "host")
    third(*values_for(plan))
    del third, net, first, second
    gc.collect()
    assert THREADS() == before


def test_a_network_may_be_called_from_several_threads():
    alone = small_plan("host", filters=19, size=9)
    inputs = values_for(alone)
    wanted = ran(alone, *inputs)
    with open_executable(on(alone, 2), "host") as net:
        net(*inputs)
        callers = [threading.Thread(target=net.run, kwargs={"runs": 30}) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert same(net.results(), wanted)


def test_a_waiting_member_sleeps():
    """No thread spins on once a network is idle."""
    plan = on(small_plan("host"), 3)
    with open_executable(plan, "host") as net:
        net(*values_for(plan))
        time.sleep(0.05)
        begin = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - begin < 0.05
        net(*values_for(plan))


def script(body):
    head = f"""
import os, signal, sys, time
sys.path[:0] = {[os.getcwd(), os.path.dirname(__file__)]!r}
from test_threads import on, open_executable, small_plan, values_for
plan = on(small_plan("host", filters=19, size=9), 3)
inputs = values_for(plan)
net = open_executable(plan, "host")
before = net(*inputs)[0]
"""
    return [sys.executable, "-c", head + body]


def finished(body):
    done = subprocess.run(script(body), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_copy_has_threads_of_its_own():
    told = finished("""
child = os.fork()
after = net(*inputs)[0]
assert (after == before).all()
net.close()
if child:
    _, status = os.waitpid(child, 0)
    assert status == 0
    print("both", flush=True)
""")
    assert told == "both\n"


def test_a_forked_copy_may_end_without_a_call():
    told = finished("""
child = os.fork()
if child:
    _, status = os.waitpid(child, 0)
    assert status == 0
    print("both", flush=True)
net.close()
""")
    assert told == "both\n"


def test_a_process_ends_though_a_network_is_open():
    assert finished("print('end', flush=True)") == "end\n"


def test_ctrl_c_ends_a_long_call_and_leaves_the_network_whole():
    body = """
print("ready", flush=True)
try:
    while True:
        net.run(runs=1000)
except KeyboardInterrupt:
    assert (net(*inputs)[0] == before).all()
    net.close()
    print("whole", flush=True)
"""
    with subprocess.Popen(script(body), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60)[0] == "whole\n"
    assert child.returncode == 0


ISOLATED = {
    "host-isolated": "host",
    "qemu:cortex-a76": "cortex-a76",
    "qemu:cortex-a53": "cortex-a53",
}


@pytest.mark.parametrize("device", ISOLATED)
def test_the_agent_runs_threads_of_its_own(device):
    open_or_skip(device).close()
    alone = small_plan(ISOLATED[device], filters=9, channels=7, size=5)
    inputs = values_for(alone)
    with open_executable(alone, device) as net:
        wanted = net(*inputs)
    with open_executable(on(alone, 3), device) as net:
        for _ in range(3):
            assert same(net(*inputs), wanted)
        assert len(net.run(runs=4, warmup=2).nanoseconds) == 4
        with pytest.raises(DeviceError, match="count"):
            net.instructions(*inputs)


class Members:
    """A team of which each member calls one function of some text with one argument."""

    def __init__(self, device, members):
        self.session = open_or_skip(device)
        arch = self.session.info.arch
        machine = llvm_target({"x86_64": "x86-64-sse", "aarch64": "cortex-a53"}[arch])
        objects = [emit(RUN + BAD + SUM, arch), team_object(machine)]
        blob = link(objects)
        base = self.session.load(blob)
        self.at = {name: base + offset for name, offset in blob.symbols.items()}
        self.memory = self.session.alloc(team_bytes(members))
        self.tables = [self.session.alloc(48) for _ in range(members)]
        entries = {name: self.at[name] for name in ("lead", "follow", "dismiss")}
        self.team = self.session.team(TeamPlace(members, self.memory, **entries))

    def __call__(self, *calls, **options):
        for table, (name, argument) in zip(self.tables, calls, strict=True):
            rows = [self.at[name], argument, 0, self.at["barrier"], self.memory, 0]
            self.session.write(table, struct.pack("<6Q", *rows))
        return self.team.call([(table, 2) for table in self.tables], **options)


@pytest.mark.parametrize("device", ["host-isolated", "qemu:cortex-a53"])
@pytest.mark.parametrize("who", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_a_crash_of_any_member_ends_only_the_call(device, who):
    members = Members(device, 3)
    with members.session:
        counter = members.session.alloc(8 * 3)
        fine = [("bump", counter + 8 * i) for i in range(3)]
        members(*fine, runs=3, warmup=1)
        broken = [("poke", 0xD0) if i in who else fine[i] for i in range(3)]
        for _ in range(3):
            with pytest.raises(Crash, match=r"SIGSEGV at poke\+0x") as caught:
                members(*broken)
            assert caught.value.address == 0xD0
        before = np.frombuffer(members.session.read(counter, 24), np.int64)
        members(*fine)
        assert (np.frombuffer(members.session.read(counter, 24), np.int64) == before + 1).all()


def test_a_member_that_never_comes_ends_the_session():
    members = Members("host-isolated", 2)
    counter = members.session.alloc(8)
    with pytest.raises(Timeout):
        members(("bump", counter), ("spin", 0), timeout_s=0.5)
    with pytest.raises(DeviceError, match="has ended"):
        members(("bump", counter), ("bump", counter))


@pytest.mark.parametrize("name", [n for n in target_names() if n not in ("host", "opencl")])
def test_a_team_is_made_for_every_cpu(name):
    ran_alone = "define hidden void @run(ptr %a, i64 %b) { ret void }"
    machine = llvm_target(name)
    head = f'target triple = "{machine.triple}"\n'
    blob = link([emit_object(head + ran_alone, machine), team_object(machine)])
    assert {"run", "barrier", "lead", "follow", "dismiss"} <= blob.symbols.keys()


def test_plans_for_threads_are_made_and_run():
    graph = small_graph(filters=40, channels=32, size=24)
    alone, two = (jit.decide.plan(graph, "host", threads=n) for n in (1, 2))
    assert max(step.tasks for step in two.steps) == 2
    inputs = values_for(alone)
    assert same(ran(two, *inputs), ran(alone, *inputs))


CONV = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Conv2d(16, 64, 3, padding=1), (torch.zeros(1, 16, 30, 31),)
"""


def told(capsys, *words, code=0):
    from gossamer.cli import main

    assert main(list(words)) == code
    return capsys.readouterr()


def test_the_command_line_takes_threads(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "conv.py").write_text(CONV)
    model, file = f"{tmp_path / 'conv.py'}:net", str(tmp_path / "two.safetensors")
    out = told(capsys, "plan", model, "--threads", "2", "-o", file).out
    assert "2 threads" in out
    assert "2 tasks" in out
    assert "host, 2 threads: p50" in told(capsys, "bench", file, "--runs", "3").out
    results = [tmp_path / "one.npy", tmp_path / "two.npy"]
    for path, words in zip(results, ([model, "--threads", "1"], [file]), strict=True):
        told(capsys, "run", *words, "--seed", "3", "-o", str(path))
    assert np.array_equal(*map(np.load, results))
    told(capsys, "check", file, "--device", "host")
    refused = told(capsys, "run", file, "--seed", "3", "--threads", "3", code=1).err
    assert "is a plan for 2 threads, not 3" in " ".join(refused.split())
    refused = told(capsys, "plan", model, "--threads", "2", "--target", "opencl", code=1).err
    assert "opencl divides the work over its device by itself" in " ".join(refused.split())
