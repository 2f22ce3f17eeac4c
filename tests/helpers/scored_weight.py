"""The one-weight module with a test, and an optimizer for which every step is a whole one."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from tests.helpers.one_weight import BATCHES, OneWeight, RecordingSGD


class SignSGD(RecordingSGD):
    """Moves each weight by the rate, however large its gradient."""

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.sign_()
        super().step()
        return loss


class ScoredWeight(OneWeight):
    """Logs its weight as `val/weight` and `test/weight`, predicts it, and lists what it was in each validation.

    The weight rises by exactly 1 a step after a resume between accumulated batches too, where gradients are lost.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.validated: list[float] = []

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.validated.append(float(self.weight))

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("test/weight", self.weight)

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight.clone()

    def configure_optimizers(self) -> Any:
        optimizer = SignSGD(self.parameter_groups(), self.rates, lr=1.0)
        return (
            optimizer if self.schedule is None else {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer)}
        )

    def test_dataloader(self) -> DataLoader:
        return self.val_dataloader()

    predict_dataloader = test_dataloader


class Unsized(IterableDataset):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.zeros(BATCHES, 1))


class UnsizedWeight(ScoredWeight):
    """Its training data has no length."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Unsized(), batch_size=1)


def score(trainer: L.Trainer, module: L.LightningModule, **arguments: Any) -> float:
    """Return `test/weight` of a test."""
    (metrics,) = trainer.test(module, verbose=False, weights_only=True, **arguments)
    return metrics["test/weight"]
