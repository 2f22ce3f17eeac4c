"""Test-time augmentation: the views of an image over which its predictions are averaged.

Views only move pixels; they know nothing of networks or tasks. They hold neither parameters nor buffers, so they work
on whatever device the images are on.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Views(nn.Module):
    """Base class: maps a batch of images to a list of batches, one for each view.

    Every view has the images' own shape, and the first view is the images themselves.
    """

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images ``(N, C, H, W)`` to a list of views, each ``(N, C, H, W)``."""
        raise NotImplementedError


class HorizontalFlipViews(Views):
    """The image and its mirror image."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images, images.flip(-1)]


class CornerCropViews(Views):
    """The image, and the four crops of its own size from the corners of the image padded by zeros.

    Each crop is the image moved by `padding` pixels along both axes.

    Args:
        padding: Pixels added on each side.

    Raises:
        ValueError: If the padding is less than one pixel.
    """

    def __init__(self, padding: int = 1) -> None:
        super().__init__()
        if padding < 1:
            raise ValueError(f"CornerCropViews: padding is {padding}; it must be at least 1 pixel.")
        self.padding = padding

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        padded = F.pad(images, [self.padding] * 4)
        ends = (0, 2 * self.padding)
        corners = [padded[..., top : top + height, left : left + width] for top in ends for left in ends]
        return [images, *corners]
