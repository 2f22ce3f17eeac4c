"""Test-time augmentation: the views of an image over which its predictions are averaged.

Views only move pixels, and boxes back; they know nothing of networks or tasks. They hold neither parameters nor
buffers, so they work on whatever device the images are on. Where a view shows what is outside the image it is black, as
in training, and not zero: a normalized image has its mean color there.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Views(nn.Module):
    """Base class: maps a batch of images to a list of batches, one for each view.

    The first view is the images themselves; the others may have another height and width. A subclass has `forward`, and
    `filled` too if its views have pixels that the images do not give.
    """

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images ``(N, C, H, W)`` to a list of views, each ``(N, C, ...)``."""
        raise NotImplementedError

    def filled(self, images: Tensor, black: Tensor | None) -> list[Tensor]:
        """Do as `forward`, where pixels that the images do not give are black. Modules call this.

        Args:
            images: ``(N, C, H, W)``.
            black: What black is in these images, ``(C,)``; None if it is zero. Modules take it from the attribute
                ``pixel_range`` of the datamodule, see `PixelRange`: have it in your own, if that normalizes.
        """
        return self(images)

    def restore_boxes(self, boxes: Tensor, view: int, image: tuple[int, int]) -> Tensor:
        """Bring boxes that were found in a view back to the image; what is not in the image is left to the caller.

        Args:
            boxes: Left, top, right, bottom in pixels of the view, ``(D, 4)``.
            view: Which of the views, from 0.
            image: Height and width of the image.

        Raises:
            NotImplementedError: If the class has no way back.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot bring boxes back: give it a restore_boxes.")


class HorizontalFlipViews(Views):
    """The image and its mirror image."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images, images.flip(-1)]

    def restore_boxes(self, boxes: Tensor, view: int, image: tuple[int, int]) -> Tensor:
        if view == 0:
            return boxes
        left, top, right, bottom = boxes.unbind(-1)
        return torch.stack([image[1] - right, top, image[1] - left, bottom], -1)


class CornerCropViews(Views):
    """The image, and the four crops of its own size from the corners of the image padded with black.

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
        return self.filled(images, None)

    def filled(self, images: Tensor, black: Tensor | None) -> list[Tensor]:
        height, width = images.shape[-2:]
        padded = F.pad(images, [self.padding] * 4)
        if black is not None:
            inside = F.pad(torch.ones(height, width, dtype=torch.bool, device=images.device), [self.padding] * 4)
            padded = padded.where(inside, black[:, None, None])
        ends = (0, 2 * self.padding)
        corners = [padded[..., top : top + height, left : left + width] for top in ends for left in ends]
        return [images, *corners]

    def restore_boxes(self, boxes: Tensor, view: int, image: tuple[int, int]) -> Tensor:
        if view == 0:
            return boxes
        down, right = (1 if place else -1 for place in divmod(view - 1, 2))
        return boxes + self.padding * boxes.new_tensor([right, down, right, down])


class MultiScaleViews(Views):
    """The image, and the image resized to other scales, bilinear and antialiased.

    The network must take images of any size, as one does that ends in global pooling.

    Example::

        Inference(views=MultiScaleViews(scales=(0.875, 1.125)))

    Args:
        scales: New length of the sides divided by the old one, one for each view beside the image itself.
        divisor: The result is rounded to multiples of so many pixels, such as the stride of a detector.

    Raises:
        ValueError: If there are no scales, or one is not above 0, is 1 or stands there twice, or the divisor is below
            1; on the first batch, if one leaves no pixel or changes no size.
    """

    def __init__(self, scales: Sequence[float] = (0.875, 1.125), divisor: int = 1) -> None:
        super().__init__()
        if divisor < 1:
            raise ValueError(f"MultiScaleViews: divisor is {divisor}; it must be at least 1 pixel.")
        wrong = [scale for place, scale in enumerate(scales) if not scale > 0 or scale in (1, *scales[:place])]
        if wrong or not scales:
            raise ValueError(
                f"MultiScaleViews(scales={list(scales)}): there must be at least one scale, each above 0, not 1, which "
                f"is the image itself, and none twice{f'; wrong are {wrong}' if wrong else ''}."
            )
        self.scales = tuple(scales)
        self.divisor = divisor

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        sizes = [self._resized(scale, (height, width)) for scale in self.scales]
        for scale, size in zip(self.scales, sizes, strict=True):
            if min(size) < 1 or size == (height, width):
                raise ValueError(
                    f"MultiScaleViews: scale {scale} makes {size[0]} x {size[1]} of images of {height} x {width} "
                    f"pixels. Choose one that changes the size and leaves a pixel."
                )
        return [images, *(F.interpolate(images, size, mode="bilinear", antialias=True) for size in sizes)]

    def restore_boxes(self, boxes: Tensor, view: int, image: tuple[int, int]) -> Tensor:
        if view == 0:
            return boxes
        height, width = self._resized(self.scales[view - 1], image)
        return boxes * boxes.new_tensor([image[1] / width, image[0] / height]).repeat(2)

    def _resized(self, scale: float, image: tuple[int, int]) -> tuple[int, int]:
        height, width = (round(scale * side / self.divisor) * self.divisor for side in image)
        return height, width

    def extra_repr(self) -> str:
        return f"scales={self.scales}, divisor={self.divisor}"
