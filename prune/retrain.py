"""Training a masked module, with or without its dense self as teacher.

Masks live on the module, so this is an ordinary loop: pruned entries get no gradient and stay
zero.  Use it, or your own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prune.macs import evaluating

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Teacher:
    """Distillation (Hinton et al., 2015): the student also learns the teacher's soft answers.

    Attributes:
        module: the teacher, usually the dense module; it runs in evaluation mode.
        temperature: what both logits are divided by before the softmax.
        share: the weight of the teacher's term in the loss; the labels have the rest.
    """

    module: nn.Module
    temperature: float = 3.0
    share: float = 0.5

    def loss(self, inputs: Tensor, logits: Tensor, label_loss: Tensor) -> Tensor:
        """(1 - share) label loss + share T^2 KL(teacher || student), both softened by T."""
        with evaluating(self.module), torch.no_grad():
            wanted = softmax(self.module(inputs) / self.temperature, dim=1)
        given = log_softmax(logits / self.temperature, dim=1)
        # T^2 keeps the gradient's size independent of the temperature.
        soft = kl_div(given, wanted, reduction="batchmean") * self.temperature**2
        return (1 - self.share) * label_loss + self.share * soft


def train(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: Optimizer,
    *,
    loss: Loss = cross_entropy,
    schedule: LRScheduler | None = None,
    teacher: Teacher | None = None,
    on_step: Callable[[float], None] | None = None,
) -> None:
    """One optimiser step per batch of (inputs, labels), in training mode.

    Args:
        module: maps inputs to logits (n, classes); changed in place.
        batches: all batches of all epochs, one after another.
        optimizer: over the module's parameters.
        loss: of (logits, labels).
        schedule: stepped after every batch.
        teacher: adds distillation.
        on_step: called with every step's loss: to show progress, to log, or to raise and stop.
    """
    module.train()
    for inputs, labels in batches:
        logits = module(inputs)
        value = loss(logits, labels)
        if teacher is not None:
            value = teacher.loss(inputs, logits, value)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        if on_step is not None:
            on_step(value.item())


def accuracy(module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The share of inputs whose largest logit is their label, in evaluation mode.

    Raises:
        ValueError: there is no batch.
    """
    right = total = 0
    with evaluating(module), torch.inference_mode():
        for inputs, labels in batches:
            right += int((module(inputs).argmax(dim=1) == labels).sum())
            total += len(labels)
    if not total:
        raise ValueError("The accuracy of no batches is undefined; give at least one.")
    return right / total
