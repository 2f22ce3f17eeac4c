"""What the moving average of the weights costs a step."""

import statistics
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks import EMA
from lit_modules import LitClassifier
from lit_modules.models import ResNet
from tests.benchmarks.report import Figure

BATCH, STEPS = 8, 8


def timed(callback: L.Callback, times: list[float]) -> L.Callback:
    """Let a callback note how long its hook after each batch takes."""
    hook = callback.on_train_batch_end

    def measured(*arguments: Any) -> None:
        started = time.perf_counter()
        hook(*arguments)
        times.append(time.perf_counter() - started)

    callback.on_train_batch_end = measured  # type: ignore[method-assign]
    return callback


class _Steps(L.Callback):
    """Notes how long each step takes, from the start of its batch to the hooks after it."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.times.append(time.perf_counter() - self.started)


def ema() -> list[Figure]:
    """Time of an update of `EMA`, against a training step and against Lightning's own callback, in the same fit.

    The second of the two finds the weights in the processor's cache, so each is second once.
    """
    shares, ratios = [], []
    for ours_first in (True, False):
        steps, ours, theirs = _time_updates(ours_first)
        shares += [mine / step for mine, step in zip(ours[1:], steps[1:], strict=True)]
        ratios += [other / mine for other, mine in zip(theirs[1:], ours[1:], strict=True)]
    return [
        Figure("EMA update / step of a ResNet-50 at batch 8", statistics.median(shares), 0.05, at_most=True),
        Figure("Lightning's EMAWeightAveraging / EMA, time of an update", statistics.median(ratios), 4, at_most=False),
    ]


def _time_updates(ours_first: bool) -> tuple[list[float], list[float], list[float]]:
    """Return the times of a fit's steps, of our updates and of Lightning's."""
    module = LitClassifier(
        network=ResNet(num_classes=1000, layers=[3, 4, 6, 3], block="bottleneck"),
        loss=nn.CrossEntropyLoss(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
    )
    images = TensorDataset(torch.randn(BATCH * STEPS, 3, 224, 224), torch.arange(BATCH * STEPS))
    steps = _Steps()
    ours: list[float] = []
    theirs: list[float] = []
    averages = [timed(EMA(validate_with_average=False), ours), timed(EMAWeightAveraging(), theirs)]
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    callbacks = [steps, *(averages if ours_first else reversed(averages))]
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, limit_val_batches=0, callbacks=callbacks, **quiet)
    trainer.fit(module, DataLoader(images, BATCH))
    return steps.times, ours, theirs
