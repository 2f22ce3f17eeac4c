"""Augmentations that make a training image out of several; they work on whole batches, without a loop over boxes.

A mix maps images ``(N, C, H, W)``, float in [0, 1], and targets as `DetectionImages` has them to the same. Random
numbers come from torch's global generators.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.detection.detection_images import Batch, Targets

_OF_BOXES = ("labels", "difficult", "crowd", "weights")
_GREY = 127 / 255


class DetectionMixUp(nn.Module):
    """Blend each image with another one of the batch, pixel on pixel, and keep the boxes of both.

    Zhang et al., 2019, arXiv:1902.04103, section 3.1: shapes stay as they are, and the loss of a box counts as much as
    its image is visible. Targets have ``weights`` ``(N, 2M)`` then.

    Example::

        VOCFolder(folder="bccd", mixes=[DetectionMixUp()], mix_off_epochs=5)

    Args:
        alpha: An image's share is drawn from Beta(`alpha`, `alpha`); the paper's best is 1.5.

    Raises:
        ValueError: If ``alpha`` is not above 0.
    """

    def __init__(self, alpha: float = 1.5) -> None:
        super().__init__()
        if not alpha > 0:
            raise ValueError(f"DetectionMixUp: alpha is {alpha}; it must be above 0.")
        self.alpha = alpha

    def forward(self, images: Tensor, targets: Targets) -> Batch:
        """Blend a batch with a random order of itself."""
        count = len(images)
        share = torch.distributions.Beta(self.alpha, self.alpha).sample((count,)).to(images)
        order = torch.randperm(count).to(images.device)
        return self.blend(images, targets, order, share)

    def blend(self, images: Tensor, targets: Targets, order: Tensor, share: Tensor) -> Batch:
        """Blend image n, with ``share[n]``, and image ``order[n]``, with the rest."""
        weight = share[:, None, None, None]
        mixed = images * weight + images[order] * (1 - weight)
        own = targets.get("weights", (targets["labels"] >= 0).to(images.dtype))
        parts = {**targets, "weights": own}
        joined = {name: torch.cat([part, part[order]], 1) for name, part in parts.items() if name != "frames"}
        shares = torch.cat([share[:, None].expand_as(own), (1 - share)[:, None].expand_as(own)], 1)
        return mixed, {**targets, **joined, "weights": joined["weights"] * shares}


class Mosaic(nn.Module):
    """Make each image of four: of itself and of three others of the batch, around a random point.

    Bochkovskiy et al., 2020, arXiv:2004.10934, section 3.3. Each image is drawn at a random scale, with a corner at
    that point, and fills a quadrant; what it leaves is grey. Boxes are cut to what is seen of them, and dropped where
    that is too little.

    Args:
        smallest_scale: The smallest scale of an image; the largest is 1.
        margin: Least distance of the point from the border, as a share of the side.
        least_visible: Boxes of which a smaller share of the area is left are dropped.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, smallest_scale: float = 0.5, margin: float = 0.25, least_visible: float = 0.25) -> None:
        super().__init__()
        problems = []
        if not 0 < smallest_scale <= 1:
            problems.append(f"smallest_scale is {smallest_scale}; it must be above 0 and at most 1.")
        if not 0 <= margin <= 0.5:
            problems.append(f"margin is {margin}; it must be from 0 to 0.5.")
        if not 0 <= least_visible <= 1:
            problems.append(f"least_visible is {least_visible}; it must be from 0 to 1.")
        if problems:
            raise ValueError("Mosaic: " + " ".join(problems))
        self.smallest_scale = smallest_scale
        self.margin = margin
        self.least_visible = least_visible

    def forward(self, images: Tensor, targets: Targets) -> Batch:
        """Make mosaics of a batch."""
        count, device = len(images), images.device
        others = torch.stack([torch.randperm(count) for _ in range(3)], 1)
        sources = torch.cat([torch.arange(count)[:, None], others], 1)
        centers = self.margin + (1 - 2 * self.margin) * torch.rand(count, 2)
        scales = self.smallest_scale + (1 - self.smallest_scale) * torch.rand(count, 4)
        return self.compose(images, targets, sources.to(device), centers.to(images), scales.to(images))

    def compose(self, images: Tensor, targets: Targets, sources: Tensor, centers: Tensor, scales: Tensor) -> Batch:
        """Make mosaics.

        Args:
            images: ``(N, C, H, W)``.
            targets: As `DetectionImages` has them.
            sources: Which image fills each quadrant, top left, top right, bottom left, bottom right, ``(N, 4)``.
            centers: Where they meet, x and y as shares of width and height, ``(N, 2)``.
            scales: Of each quadrant's image, ``(N, 4)``.
        """
        height, width = images.shape[-2:]
        size = images.new_tensor([width, height])
        points = (centers * size).round()
        is_right = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=images.device, dtype=images.dtype)
        starts = points[:, None] * is_right  # of each quadrant, (N, 4, 2)
        ends = points[:, None] + (size - points)[:, None] * is_right
        offsets = points[:, None] - (1 - is_right) * scales[..., None] * size
        mixed = _paste(images, sources, starts, ends, offsets, scales)
        return mixed, {**targets, **self._move(targets, sources, starts, ends, offsets, scales)}

    def _move(
        self, targets: Targets, sources: Tensor, starts: Tensor, ends: Tensor, offsets: Tensor, scales: Tensor
    ) -> Targets:
        """Return the boxes of all quadrants, ``(N, 4 * M, 4)``, and what belongs to them."""
        boxes = targets["boxes"][sources] * scales[..., None, None] + offsets.repeat(1, 1, 2)[:, :, None]
        clipped = boxes.maximum(starts.repeat(1, 1, 2)[:, :, None]).minimum(ends.repeat(1, 1, 2)[:, :, None])
        sides = clipped[..., 2:] - clipped[..., :2]
        area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
        seen = (sides >= 1).all(-1) & (sides.prod(-1) >= self.least_visible * area)
        moved = {name: targets[name][sources].flatten(1) for name in _OF_BOXES if name in targets}
        moved["labels"] = moved["labels"].where(seen.flatten(1), -1)
        return {**moved, "boxes": clipped.flatten(1, 2) * (moved["labels"] >= 0)[..., None]}


def _paste(images: Tensor, sources: Tensor, starts: Tensor, ends: Tensor, offsets: Tensor, scales: Tensor) -> Tensor:
    """Draw the image of each quadrant at its scale and offset, on grey."""
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(side, device=images.device, dtype=images.dtype) + 0.5 for side in (height, width))
    mixed = torch.full_like(images, _GREY)
    for quadrant in range(4):
        offset, scale = offsets[:, quadrant], scales[:, quadrant, None]
        x, y = (columns - offset[:, :1]) / scale, (rows - offset[:, 1:]) / scale  # (N, W) and (N, H), in the source
        grid = torch.stack(
            [
                (2 * x / width - 1)[:, None].expand(-1, height, -1),
                (2 * y / height - 1)[..., None].expand(-1, -1, width),
            ],
            -1,
        )
        drawn = F.grid_sample(images[sources[:, quadrant]], grid, padding_mode="border", align_corners=False)
        inside = [
            (place > 0)
            & (place < side)
            & (pixels > starts[:, quadrant, axis, None])
            & (pixels < ends[:, quadrant, axis, None])
            for axis, (place, side, pixels) in enumerate(((x, width, columns), (y, height, rows)))
        ]
        seen = inside[1][:, None, :, None] & inside[0][:, None, None, :]
        mixed = torch.where(seen, drawn, mixed)
    return mixed
