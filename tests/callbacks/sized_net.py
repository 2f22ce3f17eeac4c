"""A small network for images of any size, which writes down the sizes that it sees."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

BATCHES = 4
"""Batches an epoch, in each process."""


class SizedNet(L.LightningModule):
    """Tells two classes of random images apart; nothing in it draws random numbers or looks at the batch as a whole.

    Args:
        batch_size: images a step in each process; an epoch has `BATCHES` steps where it times the processes is 4.
        shape: height and width of the images, as they are loaded.
    """

    def __init__(self, batch_size: int = 4, shape: tuple[int, int] = (12, 12)) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
            )
        self.images = torch.randn(4 * BATCHES, 1, *shape, generator=generator)
        self.batch_size = batch_size
        self.sizes: list[tuple[int, ...]] = []  # of training batches
        self.validated: set[tuple[int, ...]] = set()
        self.dtypes: set[torch.dtype] = set()  # of the scores in training

    @property
    def widths(self) -> list[int]:
        """The width of each training batch."""
        return [size[-1] for size in self.sizes]

    def data(self) -> TensorDataset:
        return TensorDataset(self.images, (self.images.mean((1, 2, 3)) > 0).long())

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        self.sizes.append(tuple(batch[0].shape[-2:]))
        scores = self.network(batch[0])
        self.dtypes.add(scores.dtype)
        return nn.functional.cross_entropy(scores, batch[1])

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        self.validated.add(tuple(batch[0].shape[-2:]))
        self.log("val/loss", nn.functional.cross_entropy(self.network(batch[0]), batch[1]), sync_dist=True)

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def train_dataloader(self) -> DataLoader:
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(Subset(self.data(), range(rank, len(self.images), processes)), self.batch_size)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.data(), 8)

    test_dataloader = val_dataloader
