"""Loaders of images that are decoded as they are asked for."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from datamodules.decoding import quiet_torchvision


def whole_batch(batch: Any) -> Any:
    """Collate nothing: the data set's ``__getitems__`` has made a whole batch."""
    return batch


def make_decoding_loader(
    images: Dataset[Any],
    batch_size: int,
    sampler: DistributedSampler,
    drop_last: bool,
    num_workers: int,
    pin_memory: bool,
    collate: Callable[[Any], Any] = whole_batch,
    prefetch_factor: int | None = None,
) -> DataLoader[Any]:
    """Make a loader that draws nothing from the global generator.

    Args:
        images: The data set.
        batch_size: Images a batch.
        sampler: Their order.
        drop_last: Leave out a last batch that is not full.
        num_workers: Processes that make batches; 0 makes them in this one.
        pin_memory: Put batches where they travel to a GPU fastest.
        collate: Makes a batch of what the data set returns.
        prefetch_factor: Batches that each worker makes in advance; by default as torch says.
    """
    quiet_torchvision()
    return DataLoader(
        images,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=collate,
        drop_last=drop_last,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor,
        persistent_workers=num_workers > 0,
        worker_init_fn=_prepare_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else every pass over a loader draws from the global generator
    )


def _prepare_worker(worker: int) -> None:
    quiet_torchvision()
