"""The demo's clips, network and job, in miniature."""

import json

import numpy as np
import pytest
import torch
from rich.progress import Progress

import prune
import prune.demo.train as demo
from jit.files import write_whole
from prune.demo.checkpoint import CheckpointError
from prune.demo.clips import MOTIONS, _render, make_clips
from prune.demo.network import PRUNED_LAYERS, MotionNet
from prune.demo.recipe import DenseRecipe, PruneRecipe, Recipe, Training

TINY = Recipe(
    DenseRecipe(train_clips=20, test_clips=9, batch=8, training=Training(1, 1e-3)),
    PruneRecipe(training=Training(1, 1e-3)),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, run(folder)


def run(folder, recipe=TINY):
    return demo.load_or_train(folder, progress=Progress(disable=True), recipe=recipe)


def no_training(*_, **__):
    raise AssertionError("trained again")


def test_clips_are_what_they_say_and_repeat():
    clips = make_clips(35, split="train", seed=3)
    again = make_clips(35, split="train", seed=3)
    assert clips.frames.shape == (35, 1, 16, 32, 32)
    assert clips.frames.dtype == np.float32
    assert clips.frames.min() >= 0
    assert clips.frames.max() <= 1
    assert np.array_equal(clips.frames, again.frames)
    counts = np.bincount(clips.labels, minlength=len(MOTIONS))
    assert counts.max() - counts.min() <= 1
    assert not np.array_equal(clips.frames, make_clips(35, split="train", seed=4).frames)


def test_the_label_is_the_motion():
    """The centre of brightness, or how much there is, goes the way the label says."""
    clips = make_clips(400, split="test", seed=0)
    bright = np.maximum(clips.frames[:, 0, [0, -1]] - 0.4, 0)
    amount = bright.sum((2, 3))
    x = (bright.sum(2) * np.arange(32)).sum(-1) / amount
    y = (bright.sum(3) * np.arange(32)).sum(-1) / amount

    def change(value, motion):
        return np.median((value[:, 1] - value[:, 0])[clips.labels == MOTIONS.index(motion)])

    assert change(x, "left") < -2 < 2 < change(x, "right")
    assert change(y, "up") < -2 < 2 < change(y, "down")
    assert change(amount, "shrink") < -5 < 5 < change(amount, "grow")


def test_clockwise_turns_clockwise_on_the_screen():
    image = np.zeros((1, 10, 10), np.float32)
    image[0, 4:6, 8] = 1  # a spot to the right of the middle
    quarter = np.array([[[0, 0, np.pi / 2, 2]]], np.float32)
    row, column = np.argwhere(_render(image, quarter)[0, 0] > 0.5).mean(axis=0)
    assert row > 20  # now below the middle (rows grow downwards)
    assert column == pytest.approx(15.5)


def test_a_clip_count_or_split_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        make_clips(0, split="train", seed=0)
    with pytest.raises(ValueError, match="'validation'"):
        make_clips(1, split="validation", seed=0)


def test_the_network_exports_and_its_pruned_layers_carry_the_macs():
    net = MotionNet().eval()
    clip = torch.zeros(1, 1, 16, 32, 32)
    program = torch.export.export(net, (clip,))
    torch.testing.assert_close(program.module()(clip), net(clip))
    report = prune.macs(net, clip)
    carried = sum(layer.dense for layer in report.layers if layer.name in PRUNED_LAYERS)
    assert carried / report.dense > 0.95


def test_the_job_meets_its_budget_and_says_what_it_measured(finished):
    folder, result = finished
    assert result.macs.compression == pytest.approx(4, rel=0.01)
    assert list(result.masks) == [f"{name}.weight" for name in PRUNED_LAYERS]
    assert all(scheme.legal(mask) is None for scheme, mask in result.masks.values())
    assert not result.dense.training
    assert not result.pruned.training
    assert prune.masks(result.dense) == {}
    assert json.loads((folder / "results.json").read_text()) == result.summary()
    assert sorted(path.name for path in folder.iterdir()) == [
        "dense.safetensors",
        "pruned.safetensors",
        "results.json",
    ]


def test_a_second_run_loads_what_is_there(finished, monkeypatch):
    folder, first = finished
    monkeypatch.setattr(demo, "train", no_training)
    second = run(folder)
    clip = torch.from_numpy(first.test.frames)
    assert second.summary() == first.summary()
    assert torch.equal(second.pruned(clip), first.pruned(clip))
    assert torch.equal(second.dense(clip), first.dense(clip))


def test_another_recipe_trains_again_but_only_what_it_changes(tmp_path, finished, monkeypatch):
    folder, first = finished
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(demo, "train", lambda *_, **__: None)
    other = run(tmp_path, Recipe(TINY.dense, PruneRecipe("vanilla(gf=16,gc=4)", compression=2)))
    assert other.measured["dense"] == first.measured["dense"]
    assert other.macs.compression == pytest.approx(2, rel=0.02)


def test_interrupted_retraining_keeps_the_dense_network(tmp_path, monkeypatch):
    def interrupt(*_, teacher=None, **__):
        if teacher is not None:
            raise KeyboardInterrupt

    monkeypatch.setattr(demo, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dense.safetensors"]


@pytest.mark.parametrize("damage", [lambda b: b[:-40], lambda _: b"{}", lambda _: b"\xff" * 64])
def test_a_damaged_checkpoint_is_named(tmp_path, finished, damage):
    for path in finished[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / "pruned.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"pruned\.safetensors is damaged .*delete it"):
        run(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "kept"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
