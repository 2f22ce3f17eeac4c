"""Anchors: the box shapes from which a detector starts, the paper's or those of the data."""

from collections.abc import Sequence

import torch
from torch import Tensor

Shapes = list[tuple[float, float]]

PAPER_ANCHORS: Shapes = [
    (10, 13),
    (16, 30),
    (33, 23),
    (30, 61),
    (62, 45),
    (59, 119),
    (116, 90),
    (156, 198),
    (373, 326),
]
"""Widths and heights in pixels of an input of 416×416, from COCO (arXiv:1804.02767, section 2.3)."""

PAPER_INPUT = 416
"""Side in pixels of the input that `PAPER_ANCHORS` are for."""

_MAX_ROUNDS = 300


def scale_anchors(anchors: Sequence[tuple[float, float]], factor: float) -> Shapes:
    """Multiply all widths and heights by ``factor``."""
    return [(width * factor, height * factor) for width, height in anchors]


def shape_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes that lie on the same centre, for all pairs of widths and heights.

    Args:
        first: ``(..., A, 2)``.
        second: ``(B, 2)``.

    Returns:
        ``(..., A, B)``; zero where both shapes have no area.
    """
    overlap = torch.minimum(first[..., :, None, :], second).prod(-1)
    union = first.prod(-1)[..., :, None] + second.prod(-1) - overlap
    return overlap / union.clamp(min=torch.finfo(overlap.dtype).tiny)


def fit_anchors(sizes: Tensor, count: int = 9, seed: int = 0) -> Shapes:
    """Find the anchors of a data set by k-means with 1 - IoU as the distance (arXiv:1612.08242, section 2).

    The first centres are drawn as in k-means++: each far from those before it.

    Args:
        sizes: Widths and heights of the training boxes in pixels of the input, ``(B, 2)``.
        count: How many anchors.
        seed: Of the first centres.

    Returns:
        Widths and heights, the smallest area first.

    Raises:
        ValueError: If a size is not above 0, or there are fewer than ``count`` different ones.
    """
    sizes = sizes.double()
    if bool((sizes <= 0).any()):
        raise ValueError("fit_anchors: a box has no area. Drop boxes without area first.")
    different = len(sizes.unique(dim=0))
    if not 1 <= count <= different:
        raise ValueError(f"fit_anchors: count is {count}; it must be from 1 to {different}, the number of box shapes.")
    centres = _draw_centres(sizes, count, torch.Generator().manual_seed(seed))
    nearest = torch.full((len(sizes),), -1)
    for _ in range(_MAX_ROUNDS):
        overlaps = shape_iou(sizes, centres)
        previous, nearest = nearest, overlaps.argmax(1)
        if torch.equal(previous, nearest):
            break
        members = torch.zeros(count, dtype=sizes.dtype).index_add_(0, nearest, torch.ones_like(sizes[:, 0]))
        sums = torch.zeros_like(centres).index_add_(0, nearest, sizes)
        centres = torch.where(members[:, None] > 0, sums / members.clamp(min=1)[:, None], centres)
    ordered = centres[centres.prod(1).argsort(stable=True)]
    return [(float(width), float(height)) for width, height in ordered]


def _draw_centres(sizes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    drawn = [int(torch.randint(len(sizes), (), generator=generator))]
    while len(drawn) < count:
        distance = (1 - shape_iou(sizes, sizes[drawn]).amax(1)).clamp(min=0)
        drawn.append(int(torch.multinomial(distance**2, 1, generator=generator)))
    return sizes[drawn]
