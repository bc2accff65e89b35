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
import onnx
import pytest
import torch
from onnx import helper
from small_models import onnx_file
from small_plans import small_plan

import jit.executable
from gossamer.cli import inspect, main
from gossamer.cli.app import VERBS, application
from gossamer.cli.doctor import Finding
from gossamer.cli.models import source_of
from gossamer.cli.output import shortened, show_table
from jit.inputs import random_inputs
from jit.plan_file import load_plan, save_plan
from refimpl.plan import evaluate
from refimpl.schemes import KGS

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

class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.rfft(x).abs().cumsum(0)

def uncapturable():
    return nn.Sequential(nn.Conv2d(3, 5, 3), Spectrum()), (torch.zeros(1, 3, 6, 5),)

def refused():
    return nn.Upsample(scale_factor=2, mode="bicubic"), (torch.zeros(1, 3, 6, 5),)

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(9, 8), nn.LayerNorm(8)
        self.memory, self.out = nn.GRU(8, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, i):
        return self.out(self.memory(self.norm(self.table(i)))[0]).softmax(-1)

def words():
    return Words(), (torch.zeros(2, 4, dtype=torch.int64),)
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


@pytest.fixture
def pruned_onnx(tmp_path: Path) -> str:
    """A model of which the batch is open and half of a convolution's weights are zero."""
    weight = np.random.default_rng(0).standard_normal((16, 8, 3, 3)).astype(np.float32)
    weight *= KGS(8, 4).project(weight, 0.5)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    return str(onnx_file(tmp_path / "pruned.onnx", nodes, {"x": ("N", 8, 9, 7)}, w=weight))


@pytest.fixture
def strange_onnx(tmp_path: Path) -> str:
    """A model of operators that nobody has."""
    weight = np.ones((16, 8, 3, 3), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Frobnicate", ["c"], ["f"], name="frob", domain="acme"),
        helper.make_node("Unique", ["f"], ["y"], name="once"),
    ]
    return str(onnx_file(tmp_path / "strange.onnx", nodes, {"x": ("N", 8, 9, 7)}, w=weight))


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


def test_plan_refuses_a_device_that_it_would_not_measure_on(model: str, capsys) -> None:
    assert main(["plan", f"{model}:net", "--device", "qemu:cortex-a76"]) == 1
    assert "--target says what to compile for" in capsys.readouterr().err


def test_plan_and_inspect_speak_json(net: str, model: str, capsys) -> None:
    for verb in ("plan", "inspect"):
        assert main([verb, net, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert [s["layer"] for s in report["steps"]] == [s.label for s in load_plan(net).steps]
    assert main(["inspect", f"{model}:net", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"][0]["op"] == "conv"
    assert main(["inspect", f"{model}:net"]) == 0
    assert "conv" in capsys.readouterr().out


def test_inspect_says_what_a_model_is(pruned_onnx: str, capsys) -> None:
    assert main(["inspect", pruned_onnx, "--shape", "2x8x9x7"]) == 0
    shown = capsys.readouterr().out
    assert "pruned: 2 nodes, 1.15k parameters (4.61kB), 40.3k MACs kept of 80.6k (50%)" in shown
    assert "operators: 1 conv, 1 relu" in shown
    assert "input x: 2x8x9x7\noutput y: 2x16x7x5\n" in shown
    assert "kgs(gf=8,gc=4), recognised: 100% of the zeros" in shown
    assert "cannot be compiled" not in shown
    assert main(["inspect", pruned_onnx, "--shape", "x=2x8x9x7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["captured"]
    assert found["outputs"] == {"y": [2, 16, 7, 5]}
    (scheme,) = found["nodes"][0]["schemes"]
    assert scheme["origin"] == "recognised"
    assert scheme["kept"] == found["kept_macs"] / found["dense_macs"] == 0.5


def test_inspect_names_what_cannot_be_compiled(model: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(inspect, "obstacles", lambda *_: ["1: `relu` cannot be compiled yet"])
    assert main(["inspect", f"{model}:net", "--target", "cortex-a53"]) == 0
    shown = capsys.readouterr().out
    assert "cannot be compiled for cortex-a53:\n  1: `relu` cannot be compiled yet" in shown
    assert main(["inspect", f"{model}:net", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_compiled"] == [
        "1: `relu` cannot be compiled yet"
    ]


def test_inspect_shows_what_cannot_be_captured(strange_onnx: str, model: str, capsys) -> None:
    assert main(["inspect", strange_onnx]) == 1
    shown = capsys.readouterr().out
    assert "strange: 3 nodes, 1.15k parameters (4.61kB)" in shown
    assert "operators: 1 Conv, 1 Frobnicate, 1 Unique\ninput x: Nx8x9x7" in shown
    assert "acme.Frobnicate (node 'frob', opset 17)" in shown
    assert "Unique (node 'once', opset 17)" in shown
    assert main(["inspect", f"{model}:uncapturable", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["captured"]
    assert found["operators"]["aten.conv2d.default"] == 1
    assert found["parameters"] == 5 * 3 * 9 + 5
    assert [("fft_rfft" in line, "cumsum" in line) for line in found["unsupported"]] == [
        (True, False),
        (False, True),
    ]
    assert main(["inspect", f"{model}:refused"]) == 1
    assert "upsample_bicubic2d" in capsys.readouterr().out


def test_inspect_of_a_file_that_lies_says_so(tmp_path: Path, capsys) -> None:
    """Of a tensor that claims more than there is, in a model that cannot be captured anyway."""
    path = onnx_file(
        tmp_path / "lie.onnx", [helper.make_node("Unique", ["w"], ["y"])], {}, w=np.ones(3)
    )
    model = onnx.load(path)
    model.graph.initializer[0].dims[:] = [2**40] * 30
    onnx.save(model, path)
    assert main(["inspect", str(path)]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("gossamer: cannot capture Unique")


def test_long_names_are_shortened_in_the_middle() -> None:
    assert shortened("layer4.1.conv2") == "layer4.1.conv2"
    short = shortened("features." * 9 + "conv", 20)
    assert (len(short), short[:9], short[-5:]) == (20, "features.", ".conv")


def test_every_verb_takes_a_model_of_any_kind(model: str, tmp_path: Path, capsys) -> None:
    """Here one of an embedding, a norm, a recurrence and a softmax."""
    source = source_of(f"{model}:words")
    program = torch.export.export(source.model.eval(), source.example)
    torch.export.save(program, tmp_path / "words.pt2")
    np.save(tmp_path / "i.npy", np.arange(8).reshape(2, 4))
    for net in (f"{model}:words", str(tmp_path / "words.pt2")):
        for line in (
            f"inspect {net}",
            f"plan {net}",
            f"run {net} --seed 3",
            f"run {net} --input {tmp_path / 'i.npy'} -o {tmp_path / 'y.npy'}",
            f"check {net} --device host",
            f"bench {net} --runs 2",
            f"compile {net} -o {tmp_path / 'code'}",
            f"explain {net}",
            f"explain {net} --layer table",
        ):
            assert main(line.split()) == 0, line
            shown = capsys.readouterr()
            assert shown.out, line
            assert "Traceback" not in shown.err, line
    assert np.load(tmp_path / "y.npy").shape == (2, 4, 3)
    assert (tmp_path / "code" / "words.s").exists()


def test_explain_outlines_every_other_step(model: str, tmp_path: Path, capsys) -> None:
    plan = str(tmp_path / "words.safetensors")
    assert main(["plan", f"{model}:words", "-o", plan]) == 0
    capsys.readouterr()
    for step in load_plan(plan).steps:
        if step.op == "conv":
            continue
        assert main(["explain", plan, "--layer", step.name]) == 0
        assert f"{step.name}: {step.op}" in " ".join(capsys.readouterr().out.split())
        assert main(["explain", plan, "--layer", step.name, "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["targets"]
        assert found["op"] == step.op
        for kernel in found["kernels"]:
            assert kernel["stages"][0]["name"] == "naive"
            assert kernel["launches"] >= (4 if "cell" in kernel["name"] else 1)
    assert main(["explain", plan, "--layer", "table", "--all"]) == 0
    shown = capsys.readouterr().out
    assert "naive of f32_embedding" in shown
    assert "assembly of f32_embedding" in shown


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
    "plan net.onnx": "net.onnx cannot be read",
    "inspect net.pt2": "net.pt2 cannot be read",
    "plan net.pth": "'net.pth' names no model",
    "inspect {onnx} --shape y=1x2": "the model's inputs are 'x'",
    "inspect {onnx} --shape x=1xN": "is not NAME=SIZES or SIZES",
    "inspect {onnx} --shape x=1x2 --shape x=1x2": "gives input 'x' twice",
    "inspect {onnx} --shape x=1x2 --shape 1x2": "a model of one input; name them all",
    "plan {onnx}": "--shape x=1x8x9x7",
    "inspect {onnx} --shape 1x8x9x7 --target z80": "unknown target 'z80'",
    "plan {net} --shape 1x2": "has its own shapes",
    "plan {model}:net --shape 1x2": "has its own shapes",
    "bench --layer conv2d:8x8x3x3@9x9 --shape 1x2": "--shape is for a MODEL",
    "explain --layer conv2d:8x8x3x3@9x9 --shape 1x2": "--shape is for a model",
    "explain {net} --layer nope": "no convolution or linear layer 'nope'",
    "explain {net} --layer y:out --bisect": "--bisect need a convolution or linear layer",
    "explain {net} --layer y:out --stage nope": "its stages are naive",
    "plan missing.py:net": "missing.py is not a file",
    "plan {model}:nobody": "no function 'nobody'",
    "plan {model}:wrong": "returned int instead of",
    "plan {model}:broken": "raised KeyError: 'no such layer'",
    "plan {model}:uncapturable": "cannot capture aten.fft_rfft",
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
def test_errors_are_one_sentence(line: str, net: str, model: str, pruned_onnx: str, capsys) -> None:
    given = line.format(net=net, model=model, onnx=pruned_onnx).split()
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


def test_ctrl_c_is_answered_from_the_start(tmp_path: Path) -> None:
    """Here while the first package of many is imported."""
    (tmp_path / "cyclopts.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-c", "from gossamer.cli import main; raise SystemExit(main())"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "gossamer: interrupted\n")


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
