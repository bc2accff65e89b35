"""The demo's job: train the dense network, prune it to a budget of MACs, retrain it.

`load_or_train` keeps every finished network in a folder: a second run loads them, and an
interrupted one goes on from the last that was finished.

    python -m prune.demo.train FOLDER
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from jit.files import write_whole
from prune.demo.checkpoint import Measured, load_checkpoint, save_checkpoint
from prune.demo.clips import Clips, make_clips
from prune.demo.network import MotionNet
from prune.demo.recipe import DenseRecipe, Recipe, Training, recipe_key
from prune.macs import MacReport, macs, uniform_keep
from prune.magnitude import apply
from prune.masking import masks
from prune.retrain import Teacher, accuracy, train
from refimpl.schemes import Scheme, scheme_from_text

# oneDNN's 3-D convolutions train about a quarter faster on this layout.
_LAYOUT = torch.channels_last_3d


@dataclass(frozen=True, eq=False)
class DemoResult:
    """The two networks, in evaluation mode, and what was measured.

    Attributes:
        dense: the network without masks.
        pruned: the same network, pruned and retrained; it carries its masks.
        masks: weight name -> (scheme, bool mask) of `pruned`.
        measured: accuracy on `test` and seconds of training, by "dense" and "pruned".
        macs: per layer, dense and kept, for one clip.
        test: the test clips, none of whose digits were trained on.
    """

    dense: nn.Module
    pruned: nn.Module
    masks: dict[str, tuple[Scheme, np.ndarray]]
    measured: dict[str, Measured]
    macs: MacReport
    test: Clips

    def summary(self) -> dict[str, object]:
        """What was measured, as JSON values."""
        return {
            name: {**asdict(self.measured[name]), "macs": count}
            for name, count in (("dense", self.macs.dense), ("pruned", self.macs.kept))
        }


def load_or_train(folder: Path, *, progress: Progress, recipe: Recipe | None = None) -> DemoResult:
    """The demo's networks: loaded from `folder` where they are there, else trained into it.

    Writes `dense.safetensors`, `pruned.safetensors` and `results.json`, each whole or not at all.
    A checkpoint of another recipe is replaced.

    Args:
        folder: made when missing.
        progress: a task is added to it for everything that takes time.
        recipe: every number the result depends on; the demo's own where None.

    Raises:
        CheckpointError: a checkpoint of this recipe is damaged.
        OSError: the folder cannot be written.
    """
    job = _Job(folder, progress, recipe or Recipe())
    dense, dense_measured = job.dense()
    pruned, pruned_measured = job.pruned(dense)
    result = DemoResult(
        dense=_laid_out(dense, torch.contiguous_format).eval(),
        pruned=_laid_out(pruned, torch.contiguous_format).eval(),
        masks=masks(pruned),
        measured={"dense": dense_measured, "pruned": pruned_measured},
        macs=macs(pruned, torch.from_numpy(job.test.frames[:1])),
        test=job.test,
    )
    text = json.dumps(result.summary(), indent=2) + "\n"
    write_whole(folder / "results.json", text.encode())
    return result


class _Job:
    """One run of a recipe: where its files are, its clips and its progress bars."""

    def __init__(self, folder: Path, progress: Progress, recipe: Recipe) -> None:
        self.folder, self.progress, self.recipe = folder, progress, recipe
        self.network = str(MotionNet())
        self.test = make_clips(recipe.dense.test_clips, split="test", seed=recipe.dense.seed)
        self._train_clips: Clips | None = None

    def dense(self) -> tuple[nn.Module, Measured]:
        """The dense network, loaded or trained."""
        recipe, path = self.recipe.dense, self.folder / "dense.safetensors"
        key = recipe_key(self.network, recipe)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            module = _laid_out(MotionNet(), _LAYOUT)
        measured = load_checkpoint(path, module, key)
        if measured is None:
            measured = self._train(module, recipe.training, None, "Training the dense network")
            save_checkpoint(path, module, key, measured)
        return module, measured

    def pruned(self, dense: nn.Module) -> tuple[nn.Module, Measured]:
        """The pruned network, loaded, or pruned from the dense one and retrained."""
        recipe, path = self.recipe.pruned, self.folder / "pruned.safetensors"
        key = recipe_key(self.network, self.recipe.dense, recipe)
        module = copy.deepcopy(dense)
        measured = load_checkpoint(path, module, key)
        if measured is None:
            report = macs(dense, torch.from_numpy(self.test.frames[:1]))
            keep = uniform_keep(report, recipe.layers, recipe.compression)
            scheme = scheme_from_text(recipe.scheme)
            apply(module, dict.fromkeys(recipe.layers, (scheme, keep)))
            teacher = Teacher(dense)
            measured = self._train(
                module, recipe.training, teacher, "Retraining the pruned network"
            )
            save_checkpoint(path, module, key, measured)
        return module, measured

    def _train(
        self, module: nn.Module, training: Training, teacher: Teacher | None, words: str
    ) -> Measured:
        """Train, then measure on the test clips."""
        started, recipe = time.perf_counter(), self.recipe.dense
        clips = self._clips()
        steps = training.epochs * (len(clips) // recipe.batch)
        rate = training.peak_rate
        optimizer = AdamW(module.parameters(), lr=rate, weight_decay=recipe.weight_decay)
        task = self.progress.add_task(words, total=steps)
        train(
            module,
            _batches(clips, recipe, training.epochs),
            optimizer,
            loss=partial(cross_entropy, label_smoothing=recipe.label_smoothing),
            schedule=OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.25),
            teacher=teacher,
            on_step=lambda _: self.progress.advance(task),
        )
        seconds = time.perf_counter() - started
        return Measured(self._accuracy(module), seconds)

    def _clips(self) -> Clips:
        """The train clips, drawn when first needed: a run that loads both networks needs none."""
        if self._train_clips is None:
            recipe = self.recipe.dense
            task = self.progress.add_task("Drawing the train clips", total=1)
            self._train_clips = make_clips(recipe.train_clips, split="train", seed=recipe.seed)
            self.progress.advance(task)
        return self._train_clips

    def _accuracy(self, module: nn.Module) -> float:
        frames, labels = _tensors(self.test)
        batch = self.recipe.dense.batch
        return accuracy(module, zip(frames.split(batch), labels.split(batch), strict=True))


def _batches(clips: Clips, recipe: DenseRecipe, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Whole batches of all epochs, every epoch in a new order that the seed fixes."""
    frames, labels = _tensors(clips)
    generator = torch.Generator().manual_seed(recipe.seed)
    whole = len(labels) // recipe.batch * recipe.batch
    for _ in range(epochs):
        order = torch.randperm(len(labels), generator=generator)[:whole]
        for chosen in order.split(recipe.batch):
            yield frames[chosen], labels[chosen]


def _laid_out(module: nn.Module, layout: torch.memory_format) -> nn.Module:
    return module.to(memory_format=layout)  # type: ignore[call-overload]  # missing in torch's stub


def _tensors(clips: Clips) -> tuple[Tensor, Tensor]:
    # One grey channel: channels last and plain order are the same bytes, only strides differ.
    frames = torch.from_numpy(clips.frames).contiguous(memory_format=_LAYOUT)
    return frames, torch.from_numpy(clips.labels)


def main(folder: Path) -> None:
    """Run the job and print what was measured."""
    with Progress() as progress:
        result = load_or_train(folder, progress=progress)
    print(result.macs)
    for name, measured in result.measured.items():
        print(f"{name}: {measured.accuracy:.2%} of {len(result.test)} test clips, ", end="")
        print(f"trained in {measured.seconds:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m prune.demo.train FOLDER")
    try:
        main(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit("Stopped; the networks that were finished are kept, and the next run goes on.")
