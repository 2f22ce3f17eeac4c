"""Diagnostics that train: one batch that must be learnt by heart, and the rate against a tenth and ten times of it."""

import math
from typing import Any

import lightning as L
import torch
from torch.nn.modules.dropout import _DropoutNd

from ablations.check.finding import Seen, diagnostic
from ablations.check.first_steps import read_loss
from ablations.check.needs import CLASSIFIER, RATE
from ablations.check.subject import Moment, Subject

BATCH = 32
OVERFIT_STEPS = 300
OVERFIT_LR = 1e-3
REMAINS = 0.05
"""Part of the first loss that counts as none."""

RATE_STEPS = 100
LEAST_STEPS = 20
"""A run of fewer steps says nothing about its rate."""

MARGIN = 0.1
"""Part of the first loss by which a rate must be better to be called so."""

PLAIN: dict[str, Any] = {"trainer.callbacks": None, "data.transforms": [], "data.mixes": []}
"""Settings without what makes a batch another one each time it is seen."""


@diagnostic("one batch learnt by heart", CLASSIFIER)
def overfit(subject: Subject) -> Seen:
    """Whether network and loss can learn one batch by heart.

    Off for it are what works against that: augmentation, mixing, callbacks, label smoothing, dropout and weight decay.
    Adam takes the place of the recipe's optimizer, whose rate is another diagnostic's business.
    """
    first, last, steps, size = subject.at_first_batch(_learn_by_heart, PLAIN)
    text = f"loss {first:.3f} to {last:.3g} in {steps} steps on {size} images"
    if last <= REMAINS * first:
        return Seen(text)
    return Seen(
        text,
        f"It should fall below {REMAINS * first:.2g}. Look whether labels belong to their images, whether the loss "
        "gets scores and targets in the right order, and whether the network passes gradients on.",
    )


def _learn_by_heart(moment: Moment) -> tuple[float, float, int, int]:
    """Return the first and the last loss, the number of steps and of images."""
    module = moment.module
    batch = [part[:BATCH] for part in moment.batch]
    for part in module.modules():
        if isinstance(part, _DropoutNd):
            part.p = 0.0
        if hasattr(part, "label_smoothing"):
            part.label_smoothing = 0.0
    optimizer = torch.optim.Adam([tensor for tensor in module.parameters() if tensor.requires_grad], lr=OVERFIT_LR)
    first = last = math.nan
    for step in range(OVERFIT_STEPS + 1):
        loss = moment.compute_loss(batch)
        last = float(loss.detach())
        first = last if step == 0 else first
        if last <= REMAINS * first or step == OVERFIT_STEPS or not loss.requires_grad:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return first, last, step, len(batch[0])


@diagnostic("learning rate", RATE)
def learning_rate(subject: Subject) -> Seen:
    """Whether a tenth of the rate, or ten times, learns clearly more in the first steps of the recipe.

    A warm-up that is still below half the rate then leaves nothing to judge.
    """
    rate = float(subject.get("model.optimizer.lr"))
    own = _train_at(subject, rate)
    if own.steps < LEAST_STEPS and all(map(math.isfinite, own.losses)):
        return Seen(f"needs {LEAST_STEPS} steps, and the run has {own.steps}", enough=False)
    if own.highest < rate / 2:
        return Seen(f"the rate comes up to {own.highest:.2g} of {rate:g} in {own.steps} steps", enough=False)
    first, end = own.losses[0], _end(own.losses)
    lower, higher = (_end(_train_at(subject, other).losses) for other in (rate / 10, rate * 10))
    ends = f"{lower:.3g} at {rate / 10:.3g}, {end:.3g} at {rate:g}, {higher:.3g} at {rate * 10:.3g}"
    text, margin = f"loss after {own.steps} steps: {ends}", MARGIN * abs(first)
    if lower < end - margin or not math.isfinite(end):
        return Seen(text, f"The rate {rate:g} is too high: lower it, or warm it up.")
    if higher < end - margin or (higher < end and end > first - margin):
        return Seen(text, f"The rate {rate:g} is too low: try {rate * 10:g}, or search with callbacks.LRFinder.")
    if end > first - margin:
        return Seen(text, f"No rate learns from the first loss of {first:.3g}. Look at the other findings first.")
    return Seen(text)


def _train_at(subject: Subject, rate: float) -> "_RateRecorder":
    recorder = _RateRecorder()
    subject.fit(RATE_STEPS, recorder, settings={"model.optimizer.lr": rate})
    return recorder


class _RateRecorder(L.Callback):
    """Watch losses and the rate of the optimizer's first group."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.highest = 0.0
        self.steps = 0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.highest = max(self.highest, float(trainer.optimizers[0].param_groups[0]["lr"]))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        self.losses += read_loss(trainer, outputs)
        self.steps = trainer.global_step


def _end(losses: list[float]) -> float:
    """Return the mean loss of the last quarter, infinite if any loss is not finite."""
    if not all(map(math.isfinite, losses)):
        return math.inf
    last = losses[-max(1, len(losses) // 4) :]
    return sum(last) / len(last)
