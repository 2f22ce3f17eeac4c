"""Boxes of several images as tensors of one shape."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_PADDING = {"boxes": 0.0, "scores": 0.0, "labels": -1}


def pad_boxes(found: Sequence[dict[str, Tensor]], width: int) -> dict[str, Tensor]:
    """Put what was found on several images into tensors of one shape.

    Args:
        found: Of each image ``boxes`` ``(D, 4)``, ``scores`` ``(D,)`` and ``labels`` ``(D,)``, at most `width`.
        width: Places for the boxes of an image.

    Returns:
        ``boxes`` ``(N, width, 4)``, ``scores`` ``(N, width)`` and ``labels`` ``(N, width)``, -1 where there is no box.
    """
    return {
        name: torch.stack([_filled(each[name], width, value) for each in found]) for name, value in _PADDING.items()
    }


def _filled(part: Tensor, width: int, value: float) -> Tensor:
    missing = [0, 0] * (part.ndim - 1) + [0, width - len(part)]
    return nn.functional.pad(part, missing, value=value)
