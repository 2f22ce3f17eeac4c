"""A small network with batch norm, dropout and a frozen part, and a callback that records what training does to it."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

BATCH = 4
BATCHES = 4


class SmallNet(L.LightningModule):
    """Learns to tell random points of two classes apart; a frozen teacher stands by. An epoch has 4 batches."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)
            )
            self.teacher = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8)).requires_grad_(False)
            self.points = torch.randn(2 * BATCH * BATCHES, 3)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.predicted: list[Tensor] = []

    def forward(self, points: Tensor) -> Tensor:
        return self.network(points)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        self.log("val/loss", nn.functional.cross_entropy(self(batch[0]), batch[1]), sync_dist=True)

    def test_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        self.log("test/loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def predict_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.network.parameters(), lr=0.5, momentum=0.9)
        schedule = CosineAnnealingLR(optimizer, 2 * BATCHES * 4)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self) -> DataLoader:
        points = self.points[: BATCH * BATCHES * self.trainer.world_size]
        return DataLoader(TensorDataset(points, (points[:, 0] > 0).long()), batch_size=BATCH)

    def val_dataloader(self) -> DataLoader:
        points = self.points.flip(0)
        return DataLoader(TensorDataset(points, (points[:, 0] > 0).long()), batch_size=BATCH)

    test_dataloader = predict_dataloader = val_dataloader


class Trajectory(L.Callback):
    """Record every tensor of the module after every step, and the learning rate."""

    def __init__(self) -> None:
        self.states: list[list[float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.states.append([*flatten(pl_module.state_dict()), rate])


def flatten(state: dict[str, Tensor]) -> list[float]:
    """Return all numbers of a state dict."""
    return torch.cat([tensor.double().flatten() for tensor in state.values()]).tolist()
