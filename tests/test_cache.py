"""The code cache: found again, never believed, never large."""

import os
from pathlib import Path

import numpy as np
import pytest
from small_plans import small_plan

import jit.cache
from jit.artifact import build, kernel_symbols
from jit.cache import Code, CodeCache, Signature, code_key
from jit.devices import open_device
from jit.executable import Executable
from jit.inputs import random_inputs
from jit.launches import launches
from jit.target import target
from refimpl.plan import evaluate

CODE = Code(b"object", Signature(("x", "y"), ("N",), ("N",), ("y",)))


def keys_of(plan, optimisation: int = 2, name: str = "") -> frozenset[str]:
    machine = target(name or plan.target)
    kernels = kernel_symbols(launches(plan, machine)[0])
    return frozenset(code_key(s, kernel, machine, optimisation) for s, kernel in kernels.items())


def test_a_second_build_emits_nothing_and_is_the_same(tmp_path: Path, monkeypatch) -> None:
    plan, cache = small_plan(), CodeCache(tmp_path)
    first = build(plan, cache=cache)
    monkeypatch.setattr("jit.artifact.emit_object", None)
    monkeypatch.setattr("jit.artifact.lower", None)
    again = build(plan, cache=cache)
    assert again == first == build(plan, cache=cache)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}
    assert len(list(tmp_path.iterdir())) == len(first.kernels)


def test_cached_code_computes_the_plan(tmp_path: Path) -> None:
    plan = small_plan()
    inputs = random_inputs(plan)
    build(plan, cache=CodeCache(tmp_path))
    with open_device("host-isolated") as session:
        executable = Executable(build(plan, cache=CodeCache(tmp_path)), session)
        outputs = executable(*inputs)
    np.testing.assert_allclose(outputs[0], evaluate(plan, *inputs)[plan.outputs[0]], atol=1e-5)


@pytest.mark.parametrize("at", [0, 31, 32, 35, 36, 60, -1])
def test_a_damaged_entry_is_dropped_and_made_again(tmp_path: Path, at: int) -> None:
    plan, cache = small_plan(), CodeCache(tmp_path)
    first = build(plan, cache=cache)
    entry = min(tmp_path.iterdir())
    whole = entry.read_bytes()
    damaged = bytearray(whole)
    damaged[at] ^= 1
    entry.write_bytes(damaged)
    assert cache.get(entry.name.removeprefix("code-")) is None
    assert not entry.exists()
    assert build(plan, cache=cache) == first
    assert entry.read_bytes() == whole


@pytest.mark.parametrize("data", [b"", b"short", b"\0" * 32, b"\0" * 64])
def test_an_entry_that_is_none_is_dropped(tmp_path: Path, data: bytes) -> None:
    cache = CodeCache(tmp_path)
    cache.path("k").write_bytes(data)
    assert cache.get("k") is None
    assert not list(tmp_path.iterdir())


def test_entries_that_others_could_write_are_not_read(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path)
    cache.put("k", CODE)
    cache.path("link").symlink_to(cache.path("k"))
    os.mkfifo(cache.path("pipe"))
    assert cache.get("k") == CODE
    assert cache.get("link") is None
    assert cache.get("pipe") is None
    cache.path("k").chmod(0o666)
    assert cache.get("k") is None


def test_the_key_covers_what_code_depends_on(monkeypatch) -> None:
    plan = small_plan()
    keys = {
        keys_of(plan),
        keys_of(plan, 3),
        keys_of(plan, name="x86-64-avx2"),
        keys_of(small_plan(filters=40)),
        keys_of(small_plan(stride=2)),
    }
    monkeypatch.setattr(jit.cache.llvmlite, "__version__", "0.0")
    keys.add(keys_of(plan))
    monkeypatch.setattr(jit.cache, "source_digest", lambda: "other source")
    keys.add(keys_of(plan))
    assert len(keys) == 7


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path, limit=4500)
    big = Code(bytes(1000), CODE.signature)
    for i in range(4):
        cache.put(str(i), big)
        os.utime(cache.path(str(i)), ns=(i, i))
    assert cache.get("0") == big  # used just now
    cache.put("4", big)
    assert [i for i in range(5) if cache.get(str(i))] == [0, 2, 3, 4]


def test_what_writers_left_behind_goes_too(tmp_path: Path) -> None:
    left, fresh = tmp_path / ".code-a.part", tmp_path / ".code-b.part"
    for path in (left, fresh):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    CodeCache(tmp_path).put("k", CODE)
    assert not left.exists()
    assert fresh.exists()


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path / "missing")
    cache.put("k", CODE)
    assert cache.get("k") is None


def test_the_user_s_cache_is_private(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = CodeCache.of_user().folder
    assert folder == tmp_path / "gossamer"
    assert folder.stat().st_mode & 0o777 == 0o700
