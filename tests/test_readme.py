"""What README.md tells a newcomer to type does work, as it is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from onnx import helper
from small_models import onnx_file

import gossamer
from gossamer.cli import main
from jit.devices import open_device
from jit.session import DeviceError

README = (Path(__file__).parent.parent / "README.md").read_text()
MODEL, EXAMPLE, CAPTURE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
LINES = re.findall(r"^gossamer (.*?)(?:   .*)?$", README, re.MULTILINE)
LONG = "--layer"
"""In the lines that time, and explain, a layer of real size."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where somebody who reads README.md sits."""
    try:
        open_device("qemu:cortex-a76").close()
    except DeviceError as error:
        pytest.skip(str(error))
    made = tmp_path_factory.mktemp("readme")
    (made / "model.py").write_text(MODEL)
    (made / "example.py").write_text(EXAMPLE)
    relu = helper.make_node("Relu", ["x"], ["y"])
    onnx_file(made / "model.onnx", [relu], {"x": ("N", 3, "H", "W")})
    subprocess.run(
        [sys.executable, "example.py"],
        cwd=made,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=True,
    )
    return made


def test_files_are_captured(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    found: dict[str, Any] = {"gossamer": gossamer}
    exec(CAPTURE, found)
    assert dict(found["graph"].inputs) == {"x": (1, 3, 32, 32)}


def test_the_example_saves_its_plan(folder: Path) -> None:
    assert (folder / "net.safetensors").exists()


@pytest.mark.parametrize("line", [line for line in LINES if LONG not in line])
def test_the_command_line(line: str, folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    assert main(line.split()) == 0


def test_all_lines_were_found() -> None:
    assert len(LINES) == README.count("\ngossamer ")
    assert sum(LONG in line for line in LINES) == 3
