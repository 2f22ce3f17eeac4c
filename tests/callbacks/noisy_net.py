"""A small classifier with everything that makes resuming hard: dropout, batch norm, momentum and shuffled batches."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

Batch = tuple[Tensor, Tensor]

SCHEDULES: dict[str, Callable[[Optimizer], dict[str, Any]]] = {
    "by step": lambda optimizer: {"scheduler": CosineAnnealingLR(optimizer, 20), "interval": "step"},
    "by epoch": lambda optimizer: {"scheduler": ExponentialLR(optimizer, 0.5)},
    "on plateau": lambda optimizer: {
        "scheduler": ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.5),
        "monitor": "train/loss",
    },
}


class NoisyNet(L.LightningModule):
    """Three classes of noise; 4 batches of 6 images an epoch, and 2 of validation."""

    def __init__(self, schedule: str = "by step", num_workers: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
            self.images, self.targets = torch.randn(24, 5), torch.randint(3, (24,))
        self.schedule = schedule
        self.num_workers = num_workers

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.network(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val/loss", nn.functional.cross_entropy(self.network(batch[0]), batch[1]))

    def on_train_epoch_end(self) -> None:
        self.log("train/epoch", float(self.current_epoch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return {"optimizer": optimizer, "lr_scheduler": SCHEDULES[self.schedule](optimizer)}

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.images, self.targets), 6, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.images[:12], self.targets[:12]), 6)


def training_state(trainer: L.Trainer) -> dict[str, Any]:
    """Return what decides the rest of a run: weights, optimizer, schedule and Lightning's counters."""
    schedule = trainer.lr_scheduler_configs[0].scheduler.state_dict()
    return {
        "weights": dict(trainer.lightning_module.state_dict()),
        "optimizer": trainer.optimizers[0].state_dict(),
        "schedule": {name: value for name, value in schedule.items() if not isinstance(value, str)},
        "step": trainer.global_step,
        "epoch": trainer.current_epoch,
    }
