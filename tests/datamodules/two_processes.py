"""Fit and test on two processes, and check on each what it saw. Run by `test_in_memory.py`."""

from collections.abc import Sequence

import lightning as L
import torch
from torch import Tensor, nn

from datamodules import InMemoryDataModule, InMemoryImages

Batch = tuple[Tensor, Tensor]


class Numbered(InMemoryDataModule):
    """40 training, 5 validation and 9 test images, each with its index as its target."""

    class_names = tuple(str(index) for index in range(54))
    image_shape = (1, 2, 2)

    def load(self) -> InMemoryImages:
        return InMemoryImages(torch.arange(54 * 4).to(torch.uint8).view(54, 1, 2, 2), torch.arange(54))

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        return dict(zip(("train", "val", "test"), torch.arange(54).split([40, 5, 9]), strict=True))


class Checker(L.LightningModule):
    """Batch norm keeps the processes in step, as in a real model: a process short of a batch would hang the others."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 54))
        self.seen: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen += batch[1].tolist()
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.network(batch[0])
        self.seen += batch[1].tolist()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def check(self, expected: Sequence[int]) -> None:
        gathered: list[list[int]] = [[], []]
        torch.distributed.all_gather_object(gathered, self.seen)
        assert sorted(gathered[0] + gathered[1]) == list(expected), gathered
        self.seen = []

    def on_validation_epoch_start(self) -> None:
        if not self.trainer.sanity_checking:
            self.check(range(40))

    def on_validation_epoch_end(self) -> None:
        self.check(range(40, 45))

    def on_test_epoch_end(self) -> None:
        self.check(range(45, 54))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


if __name__ == "__main__":
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # Batches of 2 leave rank 1 one batch short, in validation and in test.
    model, data = Checker(), Numbered(batch_size=4, eval_batch_size=2)
    trainer.fit(model, data)
    trainer.test(model, data)
    print("every image once")
