"""Plan files: what is saved comes back, and nothing else does."""

import hashlib
import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from small_plans import plans, small_plan

import jit.files
from conformance.build import build
from conformance.layers import Linear, Net
from conformance.values import Values
from jit.decide import plan as make_plan
from jit.plan_file import PlanFileError, load_plan, plan_bytes, save_plan
from refimpl.graph import Constant
from refimpl.layout import Layout
from refimpl.plan import Place, Plan, PlanError, check
from refimpl.tiles import Tiles

RELAXED = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def saved(plan: Plan, folder: Path) -> Path:
    path = folder / "net.safetensors"
    save_plan(plan, path)
    return path


def refusal(path: Path, data: bytes) -> str:
    """What loading says of these bytes; any other exception fails the test."""
    path.write_bytes(data)
    with pytest.raises(PlanFileError) as error:
        load_plan(path)
    assert str(path) in str(error.value)
    return str(error.value)


def head_of(data: bytes) -> dict:
    size = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["gossamer"])


def tensors_of(data: bytes) -> dict[str, np.ndarray]:
    return load(data)


def forged(data: bytes, head: dict, tensors: dict[str, np.ndarray] | None = None) -> bytes:
    """The file with another head, or other tensors, and a digest that is right for them."""
    blank = json.dumps({**head, "digest": "0" * 64})
    made = save(tensors_of(data) if tensors is None else tensors, {"gossamer": blank})
    return made.replace(b"0" * 64, hashlib.sha256(made).hexdigest().encode(), 1)


@RELAXED
@given(plans())
def test_a_plan_comes_back_equal(tmp_path: Path, plan: Plan) -> None:
    path = saved(plan, tmp_path)
    again = load_plan(path)
    assert again == plan
    assert plan_bytes(again) == path.read_bytes() == plan_bytes(plan)


def test_loading_needs_no_torch(tmp_path: Path) -> None:
    path = saved(small_plan(), tmp_path)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import gossamer; print(gossamer.load(sys.argv[1]).name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "small\n"


@settings(RELAXED, max_examples=300)
@given(st.data())
def test_a_changed_byte_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = saved(small_plan(filters=3, channels=2, size=4), tmp_path)
    changed = bytearray(path.read_bytes())
    # Half of the draws hit the header, where most of what can go wrong is.
    end = data.draw(st.sampled_from((len(changed), 2000)))
    at = data.draw(st.integers(0, end - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    refusal(path, bytes(changed))


@settings(RELAXED, max_examples=100)
@given(st.data())
def test_a_cut_or_longer_file_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = saved(small_plan(filters=3, channels=2, size=4), tmp_path)
    whole = path.read_bytes()
    refusal(path, whole[: data.draw(st.integers(0, len(whole) - 1))])
    refusal(path, whole + data.draw(st.binary(min_size=1, max_size=9)))


ODD = (None, True, -1, 0, 1, 7, 2**31, 2**62, 1e308, "", "conv", "relu", [], [[]], [1, 2], {}, [-1])


def places_in(value, path=()):
    """Every place in JSON, as the keys that lead there."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places_in(value[key], (*path, key))


@settings(RELAXED, max_examples=400)
@given(st.data())
def test_a_forged_head_is_refused_or_sound(tmp_path: Path, data: st.DataObject) -> None:
    """With a right digest too, only Plans whose kernels stay inside memory are loaded."""
    path = saved(small_plan(filters=3, channels=2, size=4), tmp_path)
    whole = path.read_bytes()
    head = head_of(whole)
    *way, last = data.draw(st.sampled_from([p for p in places_in(head) if p]))
    inside = head
    for key in way:
        inside = inside[key]
    if data.draw(st.booleans()):
        inside[last] = data.draw(st.sampled_from(ODD))
    else:
        del inside[last]
    path.write_bytes(forged(whole, head))
    try:
        plan = load_plan(path)
    except PlanFileError:
        return
    check(plan)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    path = saved(small_plan(), tmp_path)
    whole = path.read_bytes()
    head = head_of(whole)
    assert "cut short" in refusal(path, whole[:-1])
    assert "altered" in refusal(path, whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "version 99" in refusal(path, forged(whole, {**head, "version": 99}))
    assert "not a plan file" in refusal(path, forged(whole, {**head, "format": "onnx"}))
    assert "not a plan file" in refusal(path, save({}, None))
    tensors = tensors_of(whole)
    dropped = dict(tensors)
    name = next(n for n in dropped if n.endswith("#values"))
    dropped.pop(name)
    assert f"{name!r} is missing" in refusal(path, forged(whole, head, dropped))
    more = {**tensors, "spare": tensors[name]}
    assert "nothing uses" in refusal(path, forged(whole, head, more))
    hostile = json.loads(json.dumps(head).replace(f'"{CONV.weight}"', '"\\u001b[2Jgone"'))
    assert "printable" in refusal(path, forged(whole, hostile))
    assert "is not a file" in refusal_of_missing(tmp_path / "missing.safetensors")
    assert "is not a file" in refusal_of_missing(Path("/dev/zero"))
    assert "is not a file" in refusal_of_missing(tmp_path)


def refusal_of_missing(path: Path) -> str:
    with pytest.raises(PlanFileError) as error:
        load_plan(path)
    return str(error.value)


def test_a_deeply_nested_head_is_refused(tmp_path: Path) -> None:
    deep = {"__metadata__": {"gossamer": "[" * 100_000}}
    header = json.dumps(deep).encode()
    header += b" " * (-len(header) % 8)
    refusal(tmp_path / "deep", len(header).to_bytes(8, "little") + header)


def test_memory_is_what_the_file_justifies(tmp_path: Path) -> None:
    """A head that claims terabytes costs nothing."""
    path = saved(small_plan(), tmp_path)
    whole = path.read_bytes()
    head = head_of(whole)
    head["plan"]["places"]["x"]["shape"] = [2**30, 2**30, 7, 8]
    head["plan"]["arena_bytes"] = 2**62
    head["weights"][CONV.weight]["shape"] = [2**31, 2**31, 3, 3]
    data = forged(whole, head)
    tracemalloc.start()
    refusal(path, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * len(data) + 2**20


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_stays(tmp_path: Path, monkeypatch, failure) -> None:
    path = saved(small_plan(), tmp_path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(jit.files.os, "replace", fail)
    with pytest.raises((PlanFileError, KeyboardInterrupt)):
        save_plan(small_plan(filters=4), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanFileError, match="cannot be written"):
        save_plan(small_plan(), tmp_path / "no" / "net.safetensors")


# -- the rules that keep kernels inside memory ---------------------------------------------------


def with_place(plan: Plan, name: str, **changes) -> Plan:
    return replace(plan, places={**plan.places, name: replace(plan.places[name], **changes)})


def with_step(plan: Plan, name: str, **changes) -> Plan:
    steps = [replace(s, **changes) if s.name == name else s for s in plan.steps]
    return replace(plan, steps=tuple(steps))


def with_tile(plan: Plan, name: str, **arrays) -> Plan:
    tiles = plan.weights[name]
    first = replace(tiles.strips[0][0], **arrays)
    changed = Tiles(tiles.shape, ((first,), *tiles.strips[1:]))
    return replace(plan, weights={**plan.weights, name: changed})


PLAN = small_plan()
CONV = next(s for s in PLAN.steps if s.op == "conv" and s.residual)
ARENA = PLAN.places[CONV.name]
TILE = PLAN.weights[CONV.weight].strips[0][0]
WEIGHT = CONV.weight
FLAT = make_plan(build(Net((3, 9), (Linear(5),)), Values("zeros"))[0], "x86-64-avx2")
LINEAR = next(s for s in FLAT.steps if s.op == "conv")

UNSOUND = {
    "a larger result": with_place(PLAN, CONV.name, shape=(*ARENA.shape[:3], ARENA.shape[3] + 1)),
    "other blocks": with_place(PLAN, CONV.name, layout=Layout(1, ARENA.layout.halo)),
    "an absurd block": with_place(PLAN, CONV.name, layout=Layout(2**40, ARENA.layout.halo)),
    "an input elsewhere": with_place(PLAN, "x", offset=64),
    "an absurd arena": replace(PLAN, arena_bytes=2**50),
    "an absurd tile": with_step(PLAN, CONV.name, schedule=replace(CONV.schedule, tile=(999, 999))),
    "no whole vectors": with_step(PLAN, CONV.name, schedule=replace(CONV.schedule, lanes=3)),
    "no schedule": with_step(PLAN, CONV.name, schedule=None),
    "no inputs": with_step(PLAN, CONV.name, inputs=()),
    "two attributes less": with_step(PLAN, CONV.name, attributes=()),
    "an absurd block of channels": with_step(
        PLAN, CONV.name, schedule=replace(CONV.schedule, channel_block=2**31)
    ),
    "strides of a linear layer": with_step(FLAT, LINEAR.name, attributes=(("stride", (1, 1)),)),
    "padding of a linear layer": with_step(FLAT, LINEAR.name, attributes=(("padding", 3),)),
    "a rounding below nothing": with_step(FLAT, LINEAR.name, rounding=-1.0),
    "a time below nothing": with_step(
        PLAN, CONV.name, choice=replace(CONV.choice, seconds=(("8x8 v8", -1.0),))
    ),
    "an unknown activation": with_step(PLAN, CONV.name, activation=("eval", ())),
    "an activation's numbers": with_step(PLAN, CONV.name, activation=("clamp", (1.0,))),
    "a column outside": with_tile(PLAN, WEIGHT, columns=TILE.columns + 10**6),
    "a negative column": with_tile(PLAN, WEIGHT, columns=TILE.columns - 10**6),
    "a column twice": with_tile(PLAN, WEIGHT, columns=TILE.columns * 0),
    "a row outside": with_tile(PLAN, WEIGHT, rows=TILE.rows + 10**6),
    "rows in another order": with_tile(PLAN, WEIGHT, rows=TILE.rows[::-1].copy()),
    "an unknown output": replace(PLAN, outputs=("nobody",)),
    "a place without layout": with_place(PLAN, CONV.name, layout=Layout(4)),
    "a longer bias": replace(
        PLAN, constants={**PLAN.constants, CONV.bias: Constant(np.zeros(99, np.float32))}
    ),
    "an unknown place": replace(
        PLAN, places={**PLAN.places, "x": Place((1, 2, 3), Layout(1, ((0, 0),)), "stack")}
    ),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_unsound_plans_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    try:
        path.write_bytes(plan_bytes(UNSOUND[name]))
    except PlanError:
        return
    with pytest.raises(PlanFileError):
        load_plan(path)


def test_sound_plans_obey_the_rules() -> None:
    check(PLAN)
    check(FLAT)
