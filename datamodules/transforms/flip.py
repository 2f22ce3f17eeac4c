"""Random mirroring of a batch."""

import torch
from torch import Tensor, nn


def flip_each(images: Tensor, flipped: Tensor, dim: int = -1) -> Tensor:
    """Mirror those images whose entry in ``flipped`` is true.

    Args:
        images: ``(N, C, H, W)`` of any dtype.
        flipped: ``(N,)`` booleans.
        dim: -1 mirrors left to right, -2 top to bottom.

    Returns:
        Images ``(N, C, H, W)``.
    """
    if images.is_cuda:  # where a mask as index would wait for the device
        return torch.where(flipped.view(-1, 1, 1, 1), images.flip(dim), images)
    return torch.stack(
        [image.flip(dim) if mirror else image for image, mirror in zip(images, flipped.tolist(), strict=True)]
    )


class BatchRandomHorizontalFlip(nn.Module):
    """Mirror each image of a batch left to right with probability ``p``.

    Example::

        BatchRandomHorizontalFlip(p=0.5)(torch.rand(128, 3, 32, 32))

    Args:
        p: Probability for one image.

    Raises:
        ValueError: If ``p`` is no probability.
    """

    dim = -1
    moves_pixels = True

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}(p={p}): a probability is between 0 and 1.")
        self.p = p

    def forward(self, images: Tensor) -> Tensor:
        return flip_each(images, torch.rand(len(images), device=images.device) < self.p, self.dim)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class BatchRandomVerticalFlip(BatchRandomHorizontalFlip):
    """Mirror each image of a batch top to bottom with probability ``p``, as `BatchRandomHorizontalFlip` does sideways.

    Args:
        p: Probability for one image.

    Raises:
        ValueError: If ``p`` is no probability.
    """

    dim = -2
