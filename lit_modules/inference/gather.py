"""Collecting over all ranks what each rank predicted for its part of a data set."""

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler
from torchmetrics.utilities.distributed import gather_all_tensors


def gather_in_dataset_order(trainer: L.Trainer, values: Tensor) -> Tensor:
    """Gather what each rank computed for its test samples and put it into the order of the data set.

    Args:
        trainer: The trainer, inside ``trainer.test``.
        values: What this rank computed, ``(n, ...)``, in the order in which it saw the samples.

    Returns:
        The values of all N samples, ``(N, ...)``, on every rank.

    Raises:
        RuntimeError: If there are several ranks and the samples were not dealt to them in order.
    """
    if trainer.world_size == 1:
        return values
    sampler = getattr(trainer.test_dataloaders, "sampler", None)
    if not isinstance(sampler, DistributedSampler) or sampler.shuffle:
        raise RuntimeError(
            f"Predictions of {trainer.world_size} ranks cannot be put into the data set's order: the test dataloader's "
            f"sampler is {type(sampler).__name__}, and it must be a DistributedSampler with shuffle=False. "
            f"Leave use_distributed_sampler on, or test on one device."
        )
    return interleave_ranks(torch.stack(gather_all_tensors(values)), len(sampler.dataset))  # type: ignore[arg-type]


def interleave_ranks(gathered: Tensor, length: int) -> Tensor:
    """Undo how ``DistributedSampler`` deals samples: sample i is at place i // W of rank i % W.

    Args:
        gathered: Values by rank, ``(W, n, ...)``.
        length: Number of samples. What goes beyond is what the sampler repeated to give each rank equally many.

    Returns:
        Values by sample, ``(length, ...)``.
    """
    return gathered.transpose(0, 1).flatten(0, 1)[:length]
