"""Tuning: what is timed, kept and taken."""

import sqlite3
from dataclasses import replace

import numpy as np
import pytest

import gossamer
from conformance.check import check_plan
from jit.decide import plan
from jit.decide.problem import Candidate
from jit.devices import open_device
from jit.executable import open_executable
from jit.inputs import random_inputs
from jit.session import DeviceError
from jit.target import target
from jit.tune import LatencyTable, TableError
from jit.tune.table import machine_digest
from jit.tune.tuner import promising
from refimpl.graph import Constant, Graph, Node, Sparsity, attributes
from refimpl.plan import Schedule
from refimpl.schemes import Unstructured

RNG = np.random.default_rng(5)


def network() -> Graph:
    """Convolutions one after another, of which the inner two are equal, and a linear layer."""
    same = attributes(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)
    names = ("first", "second", "third", "fourth")
    weights = {f"{name}.w": RNG.standard_normal((17, 17, 3, 3), np.float32) for name in names}
    weights["head.w"] = RNG.standard_normal((5, 17 * 7 * 5), np.float32)
    nodes = (
        *(
            Node((name,), "conv", (before, f"{name}.w"), same)
            for before, name in zip(("x", *names), names, strict=False)
        ),
        Node(("flat",), "flatten", ("fourth",), attributes(start=1, end=3)),
        Node(("head",), "linear", ("flat", "head.w")),
    )
    constants = {name: Constant(array) for name, array in weights.items()}
    return Graph("net", (("x", (1, 17, 7, 5)),), nodes, ("head",), constants)


GRAPH = network()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "times.sqlite"


def tuned(path, **options):
    told = []
    made = gossamer.tune(GRAPH, table=path, tell=lambda *seen: told.append(seen), **options)
    return made, told


def rows(path):
    return sqlite3.connect(path).execute("SELECT * FROM latency ORDER BY 1, 2, 3").fetchall()


def test_every_layer_takes_the_fastest_of_what_was_measured(path):
    made, told = tuned(path)
    layers = [step for step in made.steps if step.schedule is not None]
    assert len(layers) == 5
    for step in layers:
        seconds = dict(step.choice.seconds)
        assert len(seconds) > 1
        assert step.choice.winner == min(seconds, key=seconds.__getitem__)
        assert f"fastest of {len(seconds)} measured" in step.choice.reason
    first, *_, last = told
    assert first[0] < last[0] == last[1]
    assert [known for known, _ in told] == sorted(known for known, _ in told)


def test_a_tuned_network_computes_what_it_should(path):
    made, _ = tuned(path)
    inputs = tuple(random_inputs(made))
    with open_executable(made, "host") as executable:
        assert check_plan(made, executable, inputs).ok


def test_equal_layers_share_their_times(path):
    made, _ = tuned(path)
    _, second, third, *_ = (step.choice for step in made.steps if step.schedule is not None)
    assert second == third


def test_what_is_known_is_not_measured_again(path):
    made, _ = tuned(path)
    before = rows(path)
    again, told = tuned(path)
    assert again == made
    assert rows(path) == before
    assert len(told) == 1


def test_tuning_that_was_cut_short_goes_on(path):
    def stop(known, wanted):
        if rows_known and known > rows_known[0]:
            raise KeyboardInterrupt
        rows_known.append(known)

    rows_known = []
    with pytest.raises(KeyboardInterrupt):
        gossamer.tune(GRAPH, table=path, tell=stop)
    kept = rows(path)
    assert kept
    _, told = tuned(path)
    assert told[0][0] > rows_known[0]
    assert set(kept) <= set(rows(path))


def test_times_of_other_machines_and_targets_are_left_alone(path):
    with open_device("host") as session:
        here, fast = session.info, target("x86-64-sse")
    digests = {
        machine_digest(here, fast),
        machine_digest(here, target("x86-64-avx2")),
        machine_digest(replace(here, description="another"), fast),
        machine_digest(replace(here, cores=64), fast),
    }
    assert len(digests) == 4
    one, other = (LatencyTable(path, digest) for digest in sorted(digests)[:2])
    one.put("layer", {"a": 1.0, "b": 2.0})
    other.put("layer", {"a": 3.0})
    assert one.seconds("layer") == {"a": 1.0, "b": 2.0}
    assert other.seconds("layer") == {"a": 3.0}
    assert one.seconds("unknown") == {}


def test_a_table_that_is_none_is_named(path):
    path.write_bytes(b"this is no database, nor will it ever be one" * 40)
    with pytest.raises(TableError, match=f"{path.name}.*deleting it"):
        tuned(path)


def test_a_table_without_a_folder_is_named(tmp_path):
    with pytest.raises(TableError, match="missing"):
        LatencyTable(tmp_path / "missing" / "t", "m").put("layer", {"a": 1.0})


def test_a_full_disk_is_told_from_a_damaged_table(path, monkeypatch):
    def refuse(*_, **__):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    table = LatencyTable(path, "m")
    monkeypatch.setattr("jit.tune.table.sqlite3.connect", refuse)
    with pytest.raises(TableError, match=f"{path.name}.*make room"):
        table.put("layer", {"a": 1.0})


def test_an_emulator_is_refused(path):
    with pytest.raises(DeviceError, match="qemu:cortex-a76 says nothing"):
        tuned(path, device="qemu:cortex-a76")


def test_an_unknown_device_is_refused_as_everywhere(path):
    with pytest.raises(DeviceError, match="unknown device 'nonsense'; known are host"):
        tuned(path, device="nonsense")


def test_the_best_of_every_kind_is_tried_however_slow_it_should_be():
    strip = Schedule(16, 16, (1, 4), 1, 8, False)
    panel = replace(strip, rows=8, panel=1)
    found = [Candidate(f"s{i}", 1.0 + i, strip) for i in range(30)]
    listed = replace(strip, rows=1, storage="csr")
    found += [Candidate("p0", 5.0, panel), Candidate("p1", 5.5, panel), Candidate("c", 7.0, listed)]
    assert promising(found) == ("s0", "s1", "p0")
    near = [Candidate(f"s{i}", 1 + i / 100, strip) for i in range(30)]
    assert len(promising(near)) == 10


def test_formats_that_are_otherwise_taken_by_name_alone_are_tried(path):
    keep = RNG.random((17, 17, 3, 3)) < 0.1
    weight = np.where(keep, GRAPH.constants["first.w"].array, np.float32(0))
    sparse = replace(
        GRAPH,
        constants={**GRAPH.constants, "first.w": Constant(weight)},
        sparsity={"first.w": Sparsity(Unstructured(), Constant(keep))},
    )
    made = gossamer.tune(sparse, table=path)
    first = next(step for step in made.steps if step.schedule is not None)
    assert "csr" in dict(first.choice.seconds)


def test_a_plan_without_measurement_says_nothing_of_time():
    assert all(not step.choice.seconds for step in plan(GRAPH, "host").steps)
    assert "measured" in str(plan(GRAPH, "host"))
