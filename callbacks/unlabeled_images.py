"""The unlabeled images of a datamodule, read beside the training batches.

Their order belongs to the datamodule's sampler and to the epoch, so reading them draws nothing and shifts no labeled
batch. A pool smaller than an epoch is passed over several times, each time in another order.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.utils.data import DataLoader

_PASSES = 2**20  # more than an epoch has, so that no two passes of a run have the same number


class UnlabeledImages:
    """What a datamodule's `unlabeled_dataloader` reads.

    Example::

        unlabeled = find_unlabeled(trainer)
        for images in unlabeled.batches(trainer.current_epoch):  # never ends
            ...

    Args:
        trainer: whose datamodule they are of.
        loader: loads batches of images alone; under DDP each process its own share.
    """

    def __init__(self, trainer: L.Trainer, loader: DataLoader[Any]) -> None:
        self._trainer = trainer
        self.loader = loader

    def __len__(self) -> int:
        """Return the number of images, over all processes."""
        return len(self.loader.dataset)  # type: ignore[arg-type]

    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield batches as they are loaded, on the device, without end."""
        for number in itertools.count():
            self._begin_pass(epoch, number)
            yield from self._on_device(self.loader)

    def order(self, epoch: int, number: int) -> list[Any]:
        """Return what the sampler of this process draws in one of an epoch's passes: indices, or draws of them."""
        self._begin_pass(epoch, number)
        return list(self.loader.sampler)

    def read(self, batches: Iterable[list[Any]]) -> Iterator[Any]:
        """Yield the images of these indices or draws, a batch for each list, as they are loaded, on the device."""
        return self._on_device(
            DataLoader(
                self.loader.dataset,
                batch_sampler=batches,
                collate_fn=self.loader.collate_fn,
                num_workers=self.loader.num_workers,
                worker_init_fn=self.loader.worker_init_fn,
                pin_memory=self.loader.pin_memory,
                generator=torch.Generator(),  # else every pass draws from the global generator
            )
        )

    def transform(self, batch: Any) -> Any:
        """Make of a batch what the model sees: in training, other random transforms in each call."""
        return self._trainer.datamodule.on_after_batch_transfer(batch, 0)  # type: ignore[attr-defined]

    def _begin_pass(self, epoch: int, number: int) -> None:
        if hasattr(self.loader.sampler, "set_epoch"):
            self.loader.sampler.set_epoch(epoch * _PASSES + number)

    def _on_device(self, loader: DataLoader[Any]) -> Iterator[Any]:
        return (move_data_to_device(batch, self._trainer.strategy.root_device) for batch in loader)


def find_unlabeled(trainer: L.Trainer) -> UnlabeledImages | None:
    """Return the unlabeled images of the trainer's datamodule; None if it has none that fill a batch."""
    make = getattr(trainer.datamodule, "unlabeled_dataloader", None)  # type: ignore[attr-defined]
    loader = None if make is None else make()
    return UnlabeledImages(trainer, loader) if loader is not None and len(loader) else None


def class_probabilities(pl_module: L.LightningModule, scores: Tensor) -> Tensor:
    """Return the probabilities of scores ``(N, K)``: by the module's ``outputs``, else their softmax."""
    outputs = getattr(pl_module, "outputs", None)
    return scores.float().softmax(-1) if outputs is None else outputs.probabilities(scores.float())
