"""Random shifts of a batch: pad with zeros, then cut each image out at a place of its own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def crop_each(images: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Pad images with zeros and crop each to its old size.

    Args:
        images: ``(N, C, H, W)`` of any dtype.
        top: First row of each crop in the padded image, ``(N,)`` integers from 0 to ``2 * padding``.
        left: First column of each crop in the padded image, likewise.
        padding: Pixels of zeros on each side. With ``top = left = padding`` the images come back as they were.

    Returns:
        Images ``(N, C, H, W)``.
    """
    height, width = images.shape[-2:]
    # (N, C, top, left, H, W): every crop there is, as a view, so that one indexing operation picks them all.
    crops = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return crops[torch.arange(len(images), device=images.device), :, top, left]


class BatchRandomCrop(nn.Module):
    """Shift each image of a batch by up to ``padding`` pixels both ways, zeros moving in (He et al., arXiv:1512.03385).

    Example::

        Digits(transforms=[BatchRandomCrop(padding=1)])

    Args:
        padding: Longest shift in pixels: 4 is usual for 32 x 32 images.

    Raises:
        ValueError: If ``padding`` is negative.
    """

    moves_pixels = True

    def __init__(self, padding: int) -> None:
        super().__init__()
        if padding < 0:
            raise ValueError(f"BatchRandomCrop(padding={padding}): pixels cannot be negative, give 0 or more.")
        self.padding = padding

    def forward(self, images: Tensor) -> Tensor:
        top, left = torch.randint(2 * self.padding + 1, (2, len(images)), device=images.device)
        return crop_each(images, top, left, self.padding)

    def extra_repr(self) -> str:
        return f"padding={self.padding}"
