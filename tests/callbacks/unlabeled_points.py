"""Points without labels beside those of `SmallNet`."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler


class UnlabeledPoints(L.LightningDataModule):
    """Loads unlabeled points in batches of 4, beside the module's own, and in training moves all a little at random.

    Args:
        count: number of points, over all processes.

    Attributes:
        points: all of them, ``(count, 3)``.
        transformed: what each call of `on_after_batch_transfer` in training made, without labels.
    """

    def __init__(self, count: int = 20) -> None:
        super().__init__()
        self.points = torch.randn(count, 3, generator=torch.Generator().manual_seed(1))
        self.transformed: list[Tensor] = []

    def train_dataloader(self) -> DataLoader:
        return self.trainer.lightning_module.train_dataloader()

    def val_dataloader(self) -> DataLoader:
        return self.trainer.lightning_module.val_dataloader()

    def unlabeled_dataloader(self) -> DataLoader:
        sampler = DistributedSampler(
            self.points, self.trainer.world_size, self.trainer.global_rank, seed=7, drop_last=True
        )
        return DataLoader(self.points, 4, sampler=sampler, drop_last=True, generator=torch.Generator())

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        points = batch if isinstance(batch, Tensor) else batch[0]
        if self.trainer.training:
            points = points + 0.01 * torch.rand_like(points)
        if isinstance(batch, Tensor):
            self.transformed.append(points)
            return points
        return points, batch[1]

    def find(self, moved: Tensor) -> list[int]:
        """Return which points these are, before they were moved by at most 0.01 in each coordinate."""
        distances = moved[:, None] - self.points
        return ((distances >= -1e-5) & (distances <= 0.0101)).all(-1).float().argmax(1).tolist()
