"""Random erasing of a batch: a rectangle of its own in each image is overwritten.

The draws follow torchvision's ``v2.RandomErasing``: area and log aspect ratio uniform, ten attempts at a rectangle
that is smaller than the image, no erasing if all ten fail. All attempts of all images are drawn at once.
"""

import math

import torch
from torch import Tensor, nn

_ATTEMPTS = 10


def erase_each(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, value: float = 0.0) -> Tensor:
    """Overwrite one rectangle in each image.

    Args:
        images: ``(N, C, H, W)`` of any dtype.
        top: First row of each rectangle, ``(N,)``.
        left: First column of each rectangle, ``(N,)``.
        height: Rows of each rectangle, ``(N,)``; 0 leaves an image as it is.
        width: Columns of each rectangle, ``(N,)``; 0 leaves an image as it is.
        value: What to write.

    Returns:
        Images ``(N, C, H, W)``.
    """
    rows = torch.arange(images.shape[-2], device=images.device)
    columns = torch.arange(images.shape[-1], device=images.device)
    in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    return images.masked_fill(in_rows[:, None, :, None] & in_columns[:, None, None, :], value)


def draw_rectangles(
    count: int,
    image_size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw rectangles that are smaller than the image both ways.

    Args:
        count: Number of rectangles.
        image_size: Height and width of the images in pixels.
        scale: Smallest and largest share of the image's area.
        ratio: Smallest and largest height divided by width.
        device: Where to draw.

    Returns:
        ``top, left, height, width``, each ``(count,)`` int64; height and width are 0 where no attempt fitted.
    """
    rows, columns = image_size
    area = torch.empty(count, _ATTEMPTS, device=device).uniform_(*scale) * (rows * columns)
    aspect = torch.empty(count, _ATTEMPTS, device=device).uniform_(math.log(ratio[0]), math.log(ratio[1])).exp()
    heights, widths = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (heights < rows) & (widths < columns)
    first = fits.int().argmax(1, keepdim=True)  # argmax returns the first of equals
    height = (heights * fits).gather(1, first).squeeze(1)
    width = (widths * fits).gather(1, first).squeeze(1)
    place = torch.rand(2, count, device=device)
    top, left = place[0] * (rows - height + 1), place[1] * (columns - width + 1)
    return top.long(), left.long(), height.long(), width.long()


class BatchRandomErasing(nn.Module):
    """Overwrite a random rectangle in each image of a batch with probability ``p`` (Zhong et al., arXiv:1708.04896).

    Example::

        BatchRandomErasing(p=0.5, scale=(0.02, 0.2))(torch.rand(128, 3, 32, 32))

    Args:
        p: Probability for one image.
        scale: Smallest and largest share of the image's area.
        ratio: Smallest and largest height divided by width.
        value: What to write, on the scale of the images: before normalization, from 0 to 1.

    Raises:
        ValueError: If ``p`` is no probability, or ``scale`` or ``ratio`` no range.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float = 0.0,
    ) -> None:
        super().__init__()
        problems = []
        if not 0 <= p <= 1:
            problems.append(f"p={p} must be between 0 and 1")
        if not 0 <= scale[0] <= scale[1] <= 1:
            problems.append(f"scale={tuple(scale)} must hold a smaller and a larger share between 0 and 1")
        if not 0 < ratio[0] <= ratio[1]:
            problems.append(f"ratio={tuple(ratio)} must hold a smaller and a larger ratio above 0")
        if problems:
            raise ValueError(f"BatchRandomErasing: {'; '.join(problems)}.")
        self.p = p
        self.scale = (scale[0], scale[1])
        self.ratio = (ratio[0], ratio[1])
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        size = (images.shape[-2], images.shape[-1])
        top, left, height, width = draw_rectangles(len(images), size, self.scale, self.ratio, images.device)
        chosen = torch.rand(len(images), device=images.device) < self.p
        return erase_each(images, top, left, height * chosen, width, self.value)

    def extra_repr(self) -> str:
        return f"p={self.p}, scale={self.scale}, ratio={self.ratio}, value={self.value}"
