"""Random crops of a batch, of any area and aspect ratio, resized to one size.

The draws follow torchvision's ``v2.RandomResizedCrop``: area and log aspect ratio uniform, ten attempts at a crop that
fits, else the largest central one. All attempts of all images are drawn at once. Resizing is bilinear and antialiased,
as there: it is linear and separable, so each image is multiplied by two matrices of its own, one for the rows and one
for the columns. That costs ``H * W`` multiplications a row of the result: little at 32 x 32 pixels, much at 224.
"""

import math

import torch
from torch import Tensor, nn

_ATTEMPTS = 10


def resize_weights(start: Tensor, length: Tensor, source_size: int, size: int) -> Tensor:
    """Weights that resize a part of a line of pixels, bilinear and antialiased.

    Args:
        start: First pixel of each part, ``(N,)``.
        length: Pixels of each part, ``(N,)``, 1 or more.
        source_size: Pixels of the line.
        size: Pixels of the result.

    Returns:
        ``(N, size, source_size)`` float32: each row sums to 1 and is 0 outside the part.
    """
    start, length = start[:, None, None], length[:, None, None]
    scale = length / size
    centers = start + (torch.arange(size, device=start.device)[:, None] + 0.5) * scale
    pixels = torch.arange(source_size, device=start.device)
    # A triangle as wide as two pixels of the result, or of the source where the part is enlarged.
    weights = (1 - (pixels + 0.5 - centers).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((pixels >= start) & (pixels < start + length))
    return weights / weights.sum(-1, keepdim=True)


def resized_crop_each(
    images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: tuple[int, int]
) -> Tensor:
    """Cut a part of its own out of each image and resize it.

    Args:
        images: ``(N, C, H, W)`` float.
        top: First row of each crop, ``(N,)``.
        left: First column of each crop, ``(N,)``.
        height: Rows of each crop, ``(N,)``.
        width: Columns of each crop, ``(N,)``.
        size: Height and width of the result in pixels.

    Returns:
        Images ``(N, C, *size)``.
    """
    rows = resize_weights(top, height, images.shape[-2], size[0]).to(images.dtype)
    columns = resize_weights(left, width, images.shape[-1], size[1]).to(images.dtype)
    return rows[:, None] @ images @ columns.mT[:, None]


def draw_crops(
    count: int,
    image_size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw crops that are no larger than the image.

    Args:
        count: Number of crops.
        image_size: Height and width of the images in pixels.
        scale: Smallest and largest share of the image's area.
        ratio: Smallest and largest width divided by height.
        device: Where to draw.

    Returns:
        ``top, left, height, width``, each ``(count,)`` int64.
    """
    rows, columns = image_size
    area = torch.empty(count, _ATTEMPTS, device=device).uniform_(*scale) * (rows * columns)
    aspect = torch.empty(count, _ATTEMPTS, device=device).uniform_(math.log(ratio[0]), math.log(ratio[1])).exp()
    heights, widths = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (heights > 0) & (heights <= rows) & (widths > 0) & (widths <= columns)
    first = fits.int().argmax(1, keepdim=True)  # argmax returns the first of equals
    found = fits.gather(1, first).squeeze(1)
    central = largest_central_crop(image_size, ratio)
    height = torch.where(found, heights.gather(1, first).squeeze(1), central[0])
    width = torch.where(found, widths.gather(1, first).squeeze(1), central[1])
    place = torch.rand(2, count, device=device)
    top = torch.where(found, place[0] * (rows - height + 1), (rows - central[0]) // 2)
    left = torch.where(found, place[1] * (columns - width + 1), (columns - central[1]) // 2)
    return top.long(), left.long(), height.long(), width.long()


def largest_central_crop(image_size: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest part of an image whose width divided by height is in ``ratio``."""
    rows, columns = image_size
    height = min(rows, max(1, round(columns / ratio[0])))
    width = min(columns, max(1, round(rows * ratio[1])))
    return height, width


class BatchRandomResizedCrop(nn.Module):
    """Cut out a random part of each image of a batch and resize it (Szegedy et al., arXiv:1409.4842, section 6).

    Example::

        BatchRandomResizedCrop(scale=(0.25, 1.0))(torch.rand(128, 3, 32, 32))

    Args:
        scale: Smallest and largest share of the image's area.
        ratio: Smallest and largest width divided by height.
        size: Height and width of the result in pixels; without it, those of the images.

    Raises:
        ValueError: If ``scale`` or ``ratio`` is no range, or ``size`` is below 1.
    """

    def __init__(
        self,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        size: int | None = None,
    ) -> None:
        super().__init__()
        problems = []
        if not 0 < scale[0] <= scale[1] <= 1:
            problems.append(f"scale={tuple(scale)} must hold a smaller and a larger share, above 0 and up to 1")
        if not 0 < ratio[0] <= ratio[1]:
            problems.append(f"ratio={tuple(ratio)} must hold a smaller and a larger ratio above 0")
        if size is not None and size < 1:
            problems.append(f"size={size} must be at least 1 pixel")
        if problems:
            raise ValueError(f"BatchRandomResizedCrop: {'; '.join(problems)}.")
        self.scale = (scale[0], scale[1])
        self.ratio = (ratio[0], ratio[1])
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        image_size = (images.shape[-2], images.shape[-1])
        crops = draw_crops(len(images), image_size, self.scale, self.ratio, images.device)
        return resized_crop_each(images, *crops, image_size if self.size is None else (self.size, self.size))

    def extra_repr(self) -> str:
        return f"scale={self.scale}, ratio={self.ratio}, size={self.size}"
