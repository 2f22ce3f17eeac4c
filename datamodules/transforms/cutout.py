"""Cutout: a square of fixed size in each image of a batch is overwritten."""

import torch
from torch import Tensor, nn

from datamodules.transforms.erasing import erase_each


class BatchCutout(nn.Module):
    """Overwrite a square in each image of a batch, centred on a random pixel (DeVries and Taylor, arXiv:1708.04552).

    Parts of the square may lie outside the image, so that some images lose little: the paper found this to matter.

    Example::

        BatchCutout(size=16)(torch.rand(128, 3, 32, 32))

    Args:
        size: Side of the square in pixels; the paper took 16 on CIFAR-10, 8 on CIFAR-100.
        value: What to write, on the scale from 0 to 1. The paper writes 0 after normalization, which is the mean of
            the data; 0.5 is near it before.

    Raises:
        ValueError: If ``size`` is below 1.
    """

    def __init__(self, size: int, value: float = 0.5) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"BatchCutout(size={size}): the square must have a side of at least 1 pixel.")
        self.size = size
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        row = torch.randint(height, (len(images),), device=images.device)
        column = torch.randint(width, (len(images),), device=images.device)
        side = torch.full_like(row, self.size)
        return erase_each(images, row - self.size // 2, column - self.size // 2, side, side, self.value)

    def extra_repr(self) -> str:
        return f"size={self.size}, value={self.value}"
