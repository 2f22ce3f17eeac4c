"""A module whose only weight is the number of optimizer steps, and what tests of callbacks do with it.

The loss is minus the weight and the learning rate is 1, so that the weight rises by exactly 1 a step: in any hook the
weight says how many steps were made, and an average of weights has a closed form. An epoch has 4 batches. Under
gradient accumulation a step of fewer batches than the others makes it rise by less, since Lightning divides the loss.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

BATCHES = 4
"""Batches an epoch, in each process."""

Schedule = Callable[[Optimizer], Any]


class RecordingSGD(torch.optim.SGD):
    """SGD that writes the learning rates of each step, one a parameter group, into `rates`."""

    def __init__(self, parameters: Any, rates: list[list[float]], **arguments: Any) -> None:
        super().__init__(parameters, **arguments)
        self.rates = rates

    def step(self, closure: Any = None) -> Any:
        self.rates.append([float(group["lr"]) for group in self.param_groups])
        return super().step(closure)


class OneWeight(L.LightningModule):
    """The weight is the step count.

    Args:
        schedule: makes, of the optimizer, a scheduler or the dict that Lightning takes for one; by default none.
        batches: batches an epoch, in each process.
    """

    def __init__(self, schedule: Schedule | None = None, batches: int = BATCHES) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.schedule = schedule
        self.batches = batches
        self.rates: list[list[float]] = []

    @property
    def steps(self) -> float:
        """The weight as a number."""
        return float(self.weight.detach())

    @property
    def first_rates(self) -> list[float]:
        """The learning rate of each step, of the first parameter group."""
        return [rates[0] for rates in self.rates]

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -self.weight

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/weight", self.weight, sync_dist=True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.weight], "lr": 1.0}]

    def configure_optimizers(self) -> Any:
        optimizer = RecordingSGD(self.parameter_groups(), self.rates, lr=1.0)
        return (
            optimizer if self.schedule is None else {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer)}
        )

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.zeros(self.batches * self.trainer.world_size, 1), batch_size=1)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(torch.zeros(self.trainer.world_size, 1), batch_size=1)


class CrashError(Exception):
    """What `Crash` raises."""


class Crash(L.Callback):
    """Raise in the middle of an epoch, before its third batch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, 2):
            raise CrashError


def make_trainer(*callbacks: L.Callback, **settings: Any) -> L.Trainer:
    """Return a quiet trainer for 4 epochs on the processor, without logger and model checkpoints."""
    defaults = {
        "max_epochs": 4,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, L.pytorch.callbacks.Checkpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(callbacks=list(callbacks), **{**defaults, **settings})


def fit(
    module: L.LightningModule,
    *callbacks: L.Callback,
    datamodule: L.LightningDataModule | None = None,
    ckpt_path: Path | None = None,
    **settings: Any,
) -> L.Trainer:
    """Fit the module, on its own data or a datamodule's, with `make_trainer` and return the trainer."""
    trainer = make_trainer(*callbacks, **settings)
    trainer.fit(module, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def fit_until_crash(module: L.LightningModule, *callbacks: L.Callback, epoch: int, **settings: Any) -> None:
    """Fit the module until a crash in the middle of an epoch; the run must get there."""
    try:
        fit(module, *callbacks, Crash(epoch), **settings)
    except CrashError:
        return
    raise AssertionError(f"the run ended before epoch {epoch}")
