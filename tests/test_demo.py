"""The demo from start to finish in miniature, its page, its files, its exit codes."""

import json
import re
import zlib
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

import gossamer.cli.demo as verb
from gossamer.cli import main
from gossamer.demo import measure, run
from gossamer.demo.page import html_page
from gossamer.demo.pictures import clip_picture, mask_pictures
from gossamer.demo.results import DENSE, GOSSAMER, PRUNED, TORCH
from gossamer.demo.run import Effort, run_demo
from gossamer.demo.table import terminal_summary
from jit.devices import open_device
from jit.session import DeviceError
from prune.demo.recipe import DenseRecipe, PruneRecipe, Recipe, Training
from refimpl.schemes import KGS

TINY = Effort(
    Recipe(
        DenseRecipe(train_clips=16, test_clips=5, batch=8, training=Training(1, 1e-3)),
        PruneRecipe(training=Training(1, 1e-3)),
    ),
    emulated_clips=1,
    rounds=1,
)


def no_qemu(name, *, counting=False):
    if name.startswith("qemu"):
        raise DeviceError("qemu-aarch64 is not installed: apt-get install qemu-user")
    return open_device(name, counting=counting)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the networks, and a report without emulator and torch, which take long."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "open_device", no_qemu)
        patch.setattr(measure, "TORCH_LAYOUTS", {})
        patch.setattr("gossamer.demo.findings.TORCH_LAYOUTS", {})
        report = run_demo(folder, progress=Progress(disable=True), effort=TINY)
    return folder, report


def test_the_report_holds_what_was_measured_and_says_what_was_not(finished):
    _, report = finished
    assert not report.faults
    assert (
        "Not measured: qemu:cortex-a76 was left out: qemu-aarch64 is not installed: "[:-1]
        in (report.cautions[0])
    )
    dense, pruned = (report.row(network, GOSSAMER) for network in (DENSE, PRUNED))
    assert dense.clips == 5
    assert dense.macs / pruned.macs == pytest.approx(4, rel=0.01)
    assert dense.weight_bytes > 3 * pruned.weight_bytes
    assert 0 < pruned.bound_share <= 1
    assert report.row(PRUNED, TORCH).macs == dense.macs  # torch multiplies the zeros
    assert report.speedup > 1
    assert report.goals[1].met  # the MACs: known without luck
    with pytest.raises(KeyError, match="qemu"):
        report.row(DENSE, GOSSAMER, "qemu:cortex-a76")


def test_layers_are_called_as_the_network_calls_them(finished):
    layers = {layer.name: layer for layer in finished[1].layers}
    assert {"conv1", "conv2", "conv3a", "conv3b", "conv4", "head"} <= layers.keys()
    assert layers["conv1"].kept_macs == layers["conv1"].dense_macs
    assert layers["conv3b"].kept_macs < layers["conv3b"].dense_macs / 4
    assert layers["conv3b"].microseconds.keys() == {DENSE, PRUNED}


def test_the_numbers_are_json_and_the_table_fits_a_terminal(finished):
    report = finished[1]
    assert json.loads(json.dumps(report.json()))["rows"][1]["network"] == DENSE
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_summary(report))
    text = console.export_text()
    assert "pruned KGS(32,4)" in text
    assert "gossamer, host" in text
    assert max(map(len, text.splitlines())) <= 100


class Links(HTMLParser):
    """Collects what a page would load, and checks that its elements nest."""

    def __init__(self):
        super().__init__()
        self.open, self.loaded = [], []

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(finished):
    page = html_page(finished[1], "gossamer demo --folder '<b>&'")
    links = Links()
    links.feed(page)
    assert not links.open
    assert links.loaded
    assert all(link.startswith("data:image/png;base64,") for link in links.loaded)
    assert "&lt;b&gt;&amp;" in page
    assert not re.search(r"<script|https?://|@import|url\(", page)
    assert len(page) < 300_000


def test_a_fault_is_said_first(finished):
    report = replace(finished[1], faults=("pruned on this machine: conv2: 3 elements are wrong",))
    page = html_page(report, "gossamer demo")
    assert "Some layers are wrong" in page
    assert "conv2: 3 elements are wrong" in page


def test_a_mask_is_drawn_unit_by_unit():
    scheme = KGS(4, 2)
    mask = np.zeros((6, 3, 2, 3, 3), bool)  # ragged: the last strip and block are smaller
    mask[4:, 2:, 1, 2, 0] = True
    (picture,) = mask_pictures({"conv.weight": (scheme, mask)})
    assert (picture.width, picture.height) == (2 * 3 + 1, 2 * 6 + 1)
    assert picture.boxes.count("z") == 4
    # strip 1 begins below 6 planes' rows and a gap; in it plane 1, row 2 is row 5
    assert picture.kept == "M4 12h1v1h-1z"


def test_a_clip_becomes_a_picture():
    frames = np.linspace(0, 1, 16, dtype=np.float32)[:, None, None] * np.ones((16, 4, 4))
    png = b64decode(clip_picture(frames).partition(",")[2])
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
    assert (width, height) == (8 * 5 - 1, 4)
    size = int.from_bytes(png[33:37], "big")
    assert len(zlib.decompress(png[41 : 41 + size])) == height * (width + 1)


def test_the_verb_writes_both_files_whole_and_fails_only_on_a_fault(
    finished, tmp_path, monkeypatch, capsys
):
    report = finished[1]
    monkeypatch.setattr(verb, "run_demo", lambda *_, **__: report)
    assert main(["demo", "--folder", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "report.json").read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    broken = replace(report, faults=("dense on this machine: conv1: is wrong",))
    monkeypatch.setattr(verb, "run_demo", lambda *_, **__: broken)
    assert main(["demo", "--folder", str(tmp_path)]) == 1
    assert "conv1: is wrong" in capsys.readouterr().out


def test_an_interrupted_run_writes_no_report_and_says_what_is_kept(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "run_demo", interrupted)
    assert main(["demo", "--folder", str(tmp_path)]) == 130
    assert "the next run goes on" not in capsys.readouterr().err
    (tmp_path / "dense.safetensors").touch()
    assert main(["demo", "--folder", str(tmp_path)]) == 130
    assert "the next run goes on" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["dense.safetensors"]


@pytest.mark.slow
def test_everything_with_torch_and_the_emulator(finished):
    folder, _ = finished
    try:
        open_device("qemu:cortex-a76").close()
    except DeviceError as error:
        pytest.skip(str(error))
    report = run_demo(folder, progress=Progress(disable=True), effort=TINY)
    assert not report.faults
    for network in (DENSE, PRUNED):
        emulated = report.row(network, GOSSAMER, "qemu:cortex-a76")
        assert emulated.clips == 1
        assert 0 < emulated.bound_share <= 1
        assert report.row(network, TORCH).latency_ms is not None
    if not any("counted" in caution for caution in report.cautions):
        counts = [report.row(n, GOSSAMER, "qemu:cortex-a76").instructions for n in (DENSE, PRUNED)]
        # Winograd leaves little between dense and pruned where the core has few registers.
        assert counts[0] > counts[1]
