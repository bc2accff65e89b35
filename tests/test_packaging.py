"""The wheel: everything is in it, and it works outside the checkout, without torch."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from small_plans import small_plan

from jit.plan_file import save_plan

ROOT = Path(__file__).parents[1]
PACKAGES = ("refimpl", "jit", "prune", "conformance", "bench", "gossamer")
DATA = (
    "jit/arm64/agent/agent-aarch64",
    "jit/arm64/agent/agent-x86_64",
    "jit/arm64/agent/agents.sha256",
    "jit/arm64/agent/agent.c",
    "jit/arm64/count_plugin.c",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(out), str(ROOT)], check=True, cwd=out)
    (found,) = out.glob("gossamer-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory) -> Path:
    """The `bin` of a fresh environment with the wheel, and all we have here but torch."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "venv", with_pip=False)
    shared = folder / "shared"
    shared.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith(("torch", "functorch", "gossamer", "_gossamer")):
            (shared / entry.name).symlink_to(entry)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "shared.pth").write_text(f"{shared}\n")
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True)
    return python.parent


def run(program: Path, *arguments: str, folder: Path) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(p.relative_to(ROOT)) for package in PACKAGES for p in (ROOT / package).rglob("*.py")
    }
    assert names >= sources | set(DATA) | {f"{package}/py.typed" for package in PACKAGES}
    assert not [n for n in names if n.startswith(("tests/", "docs/")) or "__pycache__" in n]


def test_doctor_finds_a_working_core_and_no_torch(installed: Path, tmp_path: Path) -> None:
    found = {
        f["what"]: f
        for f in json.loads(run(installed / "gossamer", "doctor", "--json", folder=tmp_path))
    }
    assert all(f["works"] for f in found.values() if f["core"])
    assert not found["capture, prune"]["works"]
    assert found["capture, prune"]["how"] == "pip install 'gossamer[torch]'"


def test_a_plan_file_runs_there(installed: Path, tmp_path: Path) -> None:
    save_plan(small_plan(), tmp_path / "net.safetensors")
    shown = run(installed / "gossamer", "run", "net.safetensors", "--seed", "0", folder=tmp_path)
    assert "(2, 3)" in shown


def test_it_is_the_installed_one_that_runs(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import jit; print(jit.__file__)", folder=tmp_path)
    assert str(installed.parent) in where
    assert run(installed / "gossamer", "--version", folder=tmp_path).strip() == "0.1.0"


def test_the_suite_of_properties_is_found_there(installed: Path, tmp_path: Path) -> None:
    line = ["-m", "pytest", "--pyargs", "conformance", "--collect-only", "-q", "--device", "host"]
    assert "test_layers.py" in run(installed / "python", *line, folder=tmp_path)
