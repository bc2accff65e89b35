"""The command line: what it prints, what it exits with, what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_plans import small_plan

import jit.executable
from gossamer.cli import main
from gossamer.cli.app import VERBS, application
from gossamer.cli.doctor import Finding
from gossamer.cli.output import show_table
from gossamer.front import random_inputs
from jit.plan_file import load_plan, save_plan
from refimpl.plan import evaluate

MODEL = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()), (torch.zeros(1, 3, 6, 5),)

def wrong():
    return 3

def broken():
    raise KeyError("no such layer")

def misshapen():
    return nn.Sequential(nn.Flatten(), nn.Linear(3, 4)), (torch.zeros(1, 3, 6, 5),)

def uncapturable():
    return nn.LSTM(3, 4), (torch.zeros(2, 1, 3),)
"""

PRESENT = [verb for verb in VERBS if Path(f"gossamer/cli/{verb}.py").exists()]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "net.safetensors"
    save_plan(small_plan(), path)
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return str(path)


def test_help_lists_every_verb_and_imports_none(capsys) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)


@pytest.mark.parametrize("verb", PRESENT)
def test_every_verb_has_help_with_an_example(verb: str, capsys) -> None:
    assert main([verb, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Example: gossamer {verb}" in shown
    assert "--json" in shown


def test_plan_reports_and_saves(model: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out.safetensors"
    line = ["plan", f"{model}:net", "--target", "cortex-a53", "-o", str(out), "--candidates"]
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert "for cortex-a53" in shown
    assert "candidate" in shown
    assert load_plan(out).target == "cortex-a53"


def test_plan_and_inspect_speak_json(net: str, model: str, capsys) -> None:
    for verb in ("plan", "inspect"):
        assert main([verb, net, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert [s["layer"] for s in report["steps"]] == [s.label for s in load_plan(net).steps]
    assert main(["inspect", f"{model}:net", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"][0]["op"] == "conv"
    assert main(["inspect", f"{model}:net"]) == 0
    assert "conv" in capsys.readouterr().out


def test_run_reads_and_writes_arrays(net: str, tmp_path: Path, capsys) -> None:
    plan = load_plan(net)
    (x,) = random_inputs(plan)
    np.save(tmp_path / "x.npy", x.astype(np.float64))
    y = tmp_path / "y.npy"
    assert main(["run", net, "--input", str(tmp_path / "x.npy"), "-o", str(y)]) == 0
    wanted = evaluate(plan, x)[plan.outputs[0]]
    np.testing.assert_allclose(np.load(y, allow_pickle=False), wanted, atol=1e-5)
    assert str(y) in capsys.readouterr().out


def test_compile_writes_what_is_asked_for(net: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / "code"
    assert main(["compile", net, "-o", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["net.ll", "net.o", "net.s"]
    assert (out / "net.o").read_bytes().startswith(b"\x7fELF")
    capsys.readouterr()
    assert main(["compile", net, "-o", str(out / "b"), "--emit", "asm", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["files"]) == ["asm"]


def test_bench_profiles_a_plan(net: str, capsys) -> None:
    assert main(["bench", net, "--runs", "3", "--json"]) == 0
    profile = json.loads(capsys.readouterr().out)
    assert len(profile["rows"]) == len(load_plan(net).steps)
    assert main(["bench", net, "--runs", "3"]) == 0
    assert "p50" in capsys.readouterr().out


def test_check_judges_every_layer(net: str, capsys) -> None:
    assert main(["check", net, "--device", "host"]) == 0
    assert "end to end" in capsys.readouterr().out
    assert main(["check", net, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert len(report["steps"]) == len(load_plan(net).steps)


def test_check_fails_where_a_layer_is_wrong(net: str, monkeypatch, capsys) -> None:
    right = jit.executable.Executable.memory
    monkeypatch.setattr(jit.executable.Executable, "memory", lambda e, name: right(e, name) * 2)
    assert main(["check", net, "--device", "host"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_bench_of_a_layer_needs_no_model(capsys) -> None:
    line = "bench --layer conv2d:8x8x3x3@9x9 --scheme kgs:4x4 --keep 0.5 --device host-isolated"
    assert main([*line.split(), "--runs", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scheme"] == "kgs(gf=4,gc=4)"


def test_devices_and_doctor_work_here(capsys) -> None:
    assert main(["devices", "host", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["works"]
    assert main(["devices", "host", "gpu"]) == 1
    assert "unknown device" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    found = {f["what"]: f for f in json.loads(capsys.readouterr().out)}
    assert all(f["works"] for f in found.values() if f["core"])
    assert all(f["works"] or f["how"] for f in found.values())


def test_doctor_gives_advice_once() -> None:
    finding = Finding(
        "emulator", False, "no qemu: apt-get install qemu", "apt-get install qemu", False
    )
    assert finding.advice == "no qemu: apt-get install qemu"
    assert replace(finding, how="build it").advice.endswith("; build it")


ERRORS = {
    "plan nothing": "names no model",
    "plan net.onnx": ".onnx files are not read yet",
    "plan missing.py:net": "missing.py is not a file",
    "plan {model}:nobody": "no function 'nobody'",
    "plan {model}:wrong": "returned int instead of",
    "plan {model}:broken": "raised KeyError: 'no such layer'",
    "plan {model}:uncapturable": "LSTM",
    "plan {model}:misshapen": "same reduction dim",
    "plan {model}:net --target z80": "unknown target 'z80'",
    "plan no_such_package.module:net": "cannot be imported",
    "plan demo:other": "demo:dense and demo:pruned",
    "plan {net} --target cortex-a53": "is a plan for x86-64-sse",
    "run missing.safetensors --seed 1": "is not a file",
    "run {net}": "--input was given 0",
    "run {net} --input {net}": "not a .npy file",
    "run {net} --input {model}": "numpy.save writes one",
    "run {net} --seed 1 -o a.npy -o b.npy": "1 output, -o was given 2",
    "run {net} --seed 1 -o /no/such/folder/y.npy": "/no/such/folder/y.npy",
    "run {net} --seed 1 --device gpu": "unknown device 'gpu'",
    "run {net} --seed 1 --device=-oProxyCommand": "unknown device",
    "compile {net} -o x --emit wasm": "what can is asm, llvm, object",
    "bench": "either a MODEL or a --layer",
}


@pytest.mark.parametrize("line", ERRORS)
def test_errors_are_one_sentence(line: str, net: str, model: str, capsys) -> None:
    given = line.format(net=net, model=model).split()
    assert main(given) == 1
    captured = capsys.readouterr()
    assert ERRORS[line] in captured.err
    assert captured.err.startswith("gossamer: ")
    assert "Traceback" not in captured.err
    assert captured.err.count("gossamer: ") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    "line",
    [
        "frobnicate",
        "plan",
        "run x --frob",
        "plan a b c",
        "bench x --runs 0",
        "bench x --runs -1",
        "run x --seed -1",
        "check x --seed -1",
    ],
)
def test_a_line_that_makes_no_sense_exits_with_2(line: str, capsys) -> None:
    assert main(line.split()) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("gossamer: ")
    assert "--help" in shown


def test_no_terminal_is_so_narrow_that_numbers_are_cut(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_table(("layer", "why not", "cycles", ""), [("conv1", "no reason", "123456789", "x")], 2)
    assert "123456789" in capsys.readouterr().out


def test_a_traceback_comes_only_when_asked_for() -> None:
    with pytest.raises(ValueError, match="names no model"):
        main(["plan", "nothing", "--traceback"])


def test_a_missing_package_breaks_only_its_own_verb(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "gossamer.cli.explain", None)
    assert main(["explain", "x"]) == 1
    assert "reinstall" in capsys.readouterr().err
    assert application(["plan"]) is not None
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["plan", "demo:dense"]) == 1
    assert "pip install 'gossamer[torch]'" in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_error(net: str) -> None:
    line = f"{sys.executable} -m gossamer plan {net} --json | head -c 10"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stderr == ""


SLOW = """
import os, time
import torch
from torch import nn

def net():
    open("started", "w").close()
    time.sleep(60)
"""


def test_ctrl_c_exits_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(
        [sys.executable, "-m", "gossamer", "plan", "slow.py:net", "-o", "net.safetensors"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in shown
    names = {p.name for p in tmp_path.iterdir()} - {"__pycache__"}
    assert names == {"slow.py", "started"}
