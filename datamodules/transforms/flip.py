"""Random mirroring of a batch."""

import torch
from torch import Tensor, nn


def flip_each(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror left to right those images whose entry in ``flipped`` is true.

    Args:
        images: ``(N, C, H, W)`` of any dtype.
        flipped: ``(N,)`` booleans.

    Returns:
        Images ``(N, C, H, W)``.
    """
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(-1), images)


class BatchRandomHorizontalFlip(nn.Module):
    """Mirror each image of a batch left to right with probability ``p``.

    Example::

        BatchRandomHorizontalFlip(p=0.5)(torch.rand(128, 3, 32, 32))

    Args:
        p: Probability for one image.

    Raises:
        ValueError: If ``p`` is no probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"BatchRandomHorizontalFlip(p={p}): a probability is between 0 and 1.")
        self.p = p

    def forward(self, images: Tensor) -> Tensor:
        return flip_each(images, torch.rand(len(images), device=images.device) < self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
