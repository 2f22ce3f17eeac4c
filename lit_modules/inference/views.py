"""Test-time augmentation: the views of an image over which its predictions are averaged.

Views only move pixels; they know nothing of networks or tasks. They hold neither parameters nor buffers, so they work
on whatever device the images are on.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Views(nn.Module):
    """Base class: maps a batch of images to a list of batches, one for each view.

    The first view is the images themselves; the others may have another height and width.
    """

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images ``(N, C, H, W)`` to a list of views, each ``(N, C, ...)``."""
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


class MultiScaleViews(Views):
    """The image, and the image resized to other scales, bilinear and antialiased.

    The network must take images of any size, as one does that ends in global pooling.

    Example::

        Inference(views=MultiScaleViews(scales=(0.875, 1.125)))

    Args:
        scales: New length of the sides divided by the old one, one for each view beside the image itself. The result
            is rounded to whole pixels.

    Raises:
        ValueError: If there are no scales, or one is not above 0, is 1 or stands there twice; on the first batch, if
            one leaves no pixel or changes no size.
    """

    def __init__(self, scales: Sequence[float] = (0.875, 1.125)) -> None:
        super().__init__()
        wrong = [scale for place, scale in enumerate(scales) if not scale > 0 or scale in (1, *scales[:place])]
        if wrong or not scales:
            raise ValueError(
                f"MultiScaleViews(scales={list(scales)}): there must be at least one scale, each above 0, not 1, which "
                f"is the image itself, and none twice{f'; wrong are {wrong}' if wrong else ''}."
            )
        self.scales = tuple(scales)

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        sizes = [(round(scale * height), round(scale * width)) for scale in self.scales]
        for scale, size in zip(self.scales, sizes, strict=True):
            if min(size) < 1 or size == (height, width):
                raise ValueError(
                    f"MultiScaleViews: scale {scale} makes {size[0]} x {size[1]} of images of {height} x {width} "
                    f"pixels. Choose one that changes the size and leaves a pixel."
                )
        return [images, *(F.interpolate(images, size, mode="bilinear", antialias=True) for size in sizes)]

    def extra_repr(self) -> str:
        return f"scales={self.scales}"
