"""Emulated cores: their models, what is missing, and counts that repeat exactly."""

from pathlib import Path

import capstone
import pytest
from emitted import BAD, POLYNOMIAL, STORE, SUM, TABLE, Loaded, open_or_skip

from jit.arm64 import qemu
from jit.devices import open_device
from jit.session import Crash, DeviceError, Session

LOOP = """
define hidden void @loop(ptr %p, i64 %n) nounwind "no-builtins" {
e: br label %l
l: %i = phi i64 [0, %e], [%j, %l]
   %v = load volatile i64, ptr %p
   %w = add i64 %v, %i
   store volatile i64 %w, ptr %p
   %j = add i64 %i, 1
   %c = icmp ult i64 %j, %n
   br i1 %c, label %l, label %x
x: ret void
}
"""

MATRIX = """
declare <4 x i32> @llvm.aarch64.neon.smmla.v4i32.v16i8(<4 x i32>, <16 x i8>, <16 x i8>)
define hidden void @matrix(ptr %out, ptr %in) nounwind {
  %x = load <16 x i8>, ptr %in
  %y = call <4 x i32> @llvm.aarch64.neon.smmla.v4i32.v16i8(<4 x i32> zeroinitializer,
                                                           <16 x i8> %x, <16 x i8> %x)
  store <4 x i32> %y, ptr %out
  ret void
}
"""


@pytest.fixture
def counter():
    with open_or_skip("qemu:cortex-a76", counting=True) as session:
        if session.counting is not None:
            pytest.skip(session.counting)
        yield session


@pytest.mark.parametrize(
    ("cpu", "has", "lacks"),
    [
        ("cortex-a53", {"neon", "crc"}, {"lse", "fullfp16", "dotprod", "i8mm", "sve"}),
        ("cortex-a73", {"neon", "crc"}, {"lse", "fullfp16", "dotprod", "i8mm", "sve"}),
        ("cortex-a76", {"lse", "fullfp16", "dotprod", "rcpc"}, {"i8mm", "bf16", "sve"}),
        ("cortex-x1", {"lse", "fullfp16", "dotprod", "rcpc"}, {"i8mm", "bf16", "sve"}),
        ("max", {"lse", "fullfp16", "dotprod", "i8mm", "bf16", "sve", "sve2"}, set()),
        ("apple-m1", {"lse", "fullfp16", "dotprod"}, {"sve", "sve2"}),
    ],
)
def test_a_core_has_the_features_of_its_model(cpu: str, has: set[str], lacks: set[str]) -> None:
    with open_or_skip(f"qemu:{cpu}") as session:
        assert session.info.arch == "aarch64"
        assert has <= session.info.features
        assert not lacks & session.info.features
        assert session.info.description.startswith(f"emulated {cpu} (QEMU ")


def test_the_description_tells_what_stands_in() -> None:
    with open_or_skip("qemu:apple-m1") as session:
        assert "an instruction that apple-m1 lacks is not caught" in session.info.description
    with open_or_skip("qemu:cortex-a76") as session:
        assert "model" not in session.info.description


def test_an_instruction_that_the_core_lacks_is_caught() -> None:
    for cpu, works in (("max", True), ("cortex-a76", False)):
        with open_or_skip(f"qemu:{cpu}") as session:
            code = Loaded(session, MATRIX, features="+i8mm")
            out, values = session.alloc(16), session.alloc(16)
            session.write(values, bytes(range(16)))
            if works:
                code("matrix", out, values)
                assert session.read(out, 4) == sum(i * i for i in range(8)).to_bytes(4, "little")
            else:
                with pytest.raises(Crash, match=r"SIGILL at matrix\+0x"):
                    code("matrix", out, values)


@pytest.mark.parametrize("cpu", ["pentium", "cortex-a76,sve=on", "max,help", "help", " "])
def test_an_unknown_core_is_refused_with_those_that_are_known(cpu: str) -> None:
    open_or_skip("qemu").close()
    with pytest.raises(DeviceError, match=r"cannot emulate .*; it can .*cortex-a76"):
        open_device(f"qemu:{cpu}")


def test_a_missing_qemu_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(DeviceError, match="not installed: apt-get install qemu-user"):
        open_device("qemu")


def test_straight_code_counts_as_many_instructions_as_it_has(counter: Session) -> None:
    code = Loaded(counter, POLYNOMIAL, SUM)
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    out, values = counter.alloc(64), counter.alloc(64)
    for name, args in (("poly", (out, values)), ("sum", (out, 1, 2, 3, 4, 5))):
        body = counter.read(code.base, len(code.blob.code))[code.blob.symbols[name] :]
        mnemonics = [i.mnemonic for i in engine.disasm(body, 0)]
        expected = mnemonics.index("ret") + 1
        assert code(name, *args, count=True).instructions == expected


def test_counts_repeat_exactly_and_follow_the_work(counter: Session) -> None:
    code = Loaded(counter, LOOP)
    out = counter.alloc(8)
    counts = {n: code("loop", out, n, count=True).instructions for n in (1, 2, 3, 1000, 1001)}
    per_turn = counts[2] - counts[1]
    assert counts[3] - counts[2] == per_turn == counts[1001] - counts[1000]
    assert counts[1000] == counts[1] + 999 * per_turn
    for runs, warmup in ((1, 0), (5, 0), (3, 7)):
        again = code("loop", out, 1000, runs=runs, warmup=warmup, count=True)
        assert again.instructions == counts[1000]
        assert len(again.nanoseconds) == runs
    assert code("loop", out, 1000).instructions is None
    with open_device("qemu:max", counting=True) as another:
        other = Loaded(another, LOOP)
        cell = another.alloc(8)
        assert other("loop", cell, 1000, count=True).instructions == counts[1000]


def test_a_crash_does_not_disturb_counting(counter: Session) -> None:
    code = Loaded(counter, STORE, BAD)
    out = counter.alloc(8)
    before = code("store", out, 5, count=True).instructions
    with pytest.raises(Crash):
        code("poke", 8, count=True)
    assert code("store", out, 5, count=True).instructions == before == 2


def test_counting_that_was_not_asked_for_says_so() -> None:
    with open_or_skip("qemu") as session:
        code = Loaded(session, STORE)
        with pytest.raises(DeviceError, match="opened without counting"):
            code("store", session.alloc(8), 1, count=True)


def _only(folder: Path, monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    """A PATH that holds these programs and an empty private folder."""
    (folder / "bin").mkdir()
    for program in programs:
        path = qemu.shutil.which(program)
        if path is None:
            pytest.skip(f"{program} is not installed")
        (folder / "bin" / program).symlink_to(path)
    monkeypatch.setenv("PATH", str(folder / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))


@pytest.mark.parametrize(
    ("programs", "reason"),
    [
        (["qemu-aarch64-static"], "qemu-aarch64 is not installed: apt-get install qemu-user"),
        (["qemu-aarch64-static", "qemu-aarch64"], "needs a C compiler: apt-get install gcc"),
    ],
)
def test_counting_that_is_not_possible_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: list[str], reason: str
) -> None:
    _only(tmp_path, monkeypatch, *programs)
    with open_device("qemu:cortex-a76", counting=True) as session:
        assert session.counting is not None
        assert reason in session.counting
        code, out = Loaded(session, TABLE), session.alloc(8)
        code("pick", out, 1)
        assert session.read(out, 8) == (22).to_bytes(8, "little")
        with pytest.raises(DeviceError, match=reason):
            code("pick", out, 1, count=True)


def test_a_plugin_that_qemu_does_not_accept_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(tmp_path, monkeypatch, "qemu-aarch64", "cc", "as", "ld")
    monkeypatch.setattr(qemu, "_interface", lambda _version: "99")
    with open_device("qemu", counting=True) as session:
        assert session.counting is not None
        assert "API version 99" in session.counting
