"""Collecting over all ranks what each rank predicted for its part of a data set."""

from collections.abc import Sequence
from typing import Any

import lightning as L
from torch import Tensor
from torch.utils.data import DistributedSampler
from torchmetrics.utilities.distributed import gather_all_tensors


def gather_in_dataset_order(trainer: L.Trainer, values: Tensor, loader: Any = None) -> Tensor:
    """Gather what each rank computed for its test samples and put it into the order of the data set.

    Args:
        trainer: The trainer, inside ``trainer.test``, or inside what uses ``loader``.
        values: What this rank computed, ``(n, ...)``, in the order in which it saw the samples.
        loader: The dataloader of the samples; by default that of the test.

    Returns:
        The values of all N samples, ``(N, ...)``, on every rank.

    Raises:
        RuntimeError: If there are several ranks and the samples were not dealt to them in order.
    """
    if trainer.world_size == 1:
        return values
    sampler = getattr(trainer.test_dataloaders if loader is None else loader, "sampler", None)
    if not isinstance(sampler, DistributedSampler) or sampler.shuffle:
        raise RuntimeError(
            f"Predictions of {trainer.world_size} ranks cannot be put into the data set's order: the dataloader's "
            f"sampler is {type(sampler).__name__}, and it must be a DistributedSampler with shuffle=False. "
            f"Leave use_distributed_sampler on, or test on one device."
        )
    return interleave_ranks(gather_all_tensors(values), len(sampler.dataset))  # type: ignore[arg-type]


def interleave_ranks(gathered: Sequence[Tensor], length: int) -> Tensor:
    """Undo how ``DistributedSampler`` deals samples: sample i is at place i // W of rank i % W.

    Args:
        gathered: Values of each of W ranks, ``(n, ...)``.
        length: Number of samples. What goes beyond is what the sampler repeated to give each rank equally many.

    Returns:
        Values by sample, ``(length, ...)``.
    """
    ranks = len(gathered)
    samples = gathered[0].new_empty((length, *gathered[0].shape[1:]))
    for rank, values in enumerate(gathered):
        samples[rank::ranks] = values[: len(range(rank, length, ranks))]
    return samples
