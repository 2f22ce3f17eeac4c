"""Images in memory as uint8, with their targets, read a whole batch at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

Batch = tuple[Tensor, Tensor]


class InMemoryImages(Dataset[Batch]):
    """Images and targets in memory, read a whole batch at a time.

    Args:
        images: ``(N, C, H, W)`` uint8.
        targets: ``(N,)`` int64 class indices.

    Raises:
        ValueError: If shapes or dtypes are others, or the lengths differ.
    """

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8 (N, C, H, W), got {images.dtype} {tuple(images.shape)}.")
        if targets.ndim != 1 or targets.dtype != torch.int64 or len(targets) != len(images):
            raise ValueError(
                f"targets must be int64 ({len(images)},), one for each image, got {targets.dtype} "
                f"{tuple(targets.shape)}."
            )
        self.images = images
        self.targets = targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return self.images[index], self.targets[index]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Images ``(B, C, H, W)`` and targets ``(B,)`` of a batch; `DataLoader` prefers this to single items."""
        rows = torch.as_tensor(indices)
        return self.images.index_select(0, rows), self.targets.index_select(0, rows)

    def subset(self, indices: Tensor) -> "InMemoryImages":
        """The images at ``indices``, as a copy."""
        return InMemoryImages(self.images[indices], self.targets[indices])


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, exact and without a float copy of the images.

    Args:
        images: ``(N, C, H, W)`` uint8.

    Returns:
        Mean and standard deviation of the values scaled to [0, 1], each ``(C, 1, 1)`` float32.
    """
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)]).double()
    shares = counts / counts.sum(1, keepdim=True)
    levels = torch.linspace(0, 1, 256, dtype=torch.float64)
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]) ** 2).sum(1)
    return mean.float().view(-1, 1, 1), variance.sqrt().float().view(-1, 1, 1)


def normalized_range(mean: Tensor, sd: Tensor) -> Tensor:
    """Return what normalization by ``(C, 1, 1)`` statistics makes of black, 0, and white, 1: ``(2, C)``."""
    return (torch.tensor([[0.0], [1.0]], device=mean.device) - mean.flatten()) / sd.flatten()


def checked_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return `channel_statistics` by which images can be normalized.

    Raises:
        ValueError: If a channel does not vary.
    """
    mean, sd = channel_statistics(images)
    constant = (sd.flatten() == 0).nonzero().flatten().tolist()
    if constant:
        raise ValueError(f"normalize=True, but the training images do not vary in channel(s) {constant}.")
    return mean, sd
