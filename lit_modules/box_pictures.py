"""Pictures of what a detector finds, beside the truth."""

from collections.abc import Sequence

import lightning as L
import torch
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from lit_modules.pictures import TaskPicture, displayed, tested_batch

LEAST_SCORE = 0.3
"""Boxes with a lower score are not drawn."""

_COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")
_GAP = 4


def detection_pictures(
    predictions: dict[str, Tensor], datamodule: L.LightningDataModule, most: int
) -> list[TaskPicture]:
    """Draw the true boxes of the first test images on the left, and what was found on the right.

    Args:
        predictions: ``boxes``, ``scores`` and ``labels`` as `LitDetector` keeps them.
        datamodule: Its test images, with their boxes; ``class_names`` stand in the pictures, if it has them.
        most: How many pictures at most.
    """
    indices = list(range(min(most, len(predictions["labels"]))))
    if not indices:
        return []
    images, targets = tested_batch(datamodule, indices)
    names = getattr(datamodule, "class_names", None)
    return [
        _picture(
            images[index],
            {name: targets[name][index] for name in ("boxes", "labels")},
            {name: part[index] for name, part in predictions.items()},
            names,
        )
        for index in indices
    ]


def _picture(
    image: Tensor, truth: dict[str, Tensor], found: dict[str, Tensor], names: Sequence[str] | None
) -> TaskPicture:
    shown = displayed(image)
    factor = shown.shape[-1] / image.shape[-1]
    real, sure = truth["labels"] >= 0, (found["labels"] >= 0) & (found["scores"] >= LEAST_SCORE)
    left = _draw(shown, truth["boxes"][real] * factor, truth["labels"][real], names)
    right = _draw(shown, found["boxes"][sure] * factor, found["labels"][sure], names)
    gap = torch.full((3, shown.shape[1], _GAP), 255, dtype=torch.uint8)
    caption = (
        f"{int(real.sum())} true boxes on the left, {int(sure.sum())} found with a score of at least {LEAST_SCORE}"
    )
    return TaskPicture(torch.cat([left, gap, right], 2), caption)


def _draw(image: Tensor, boxes: Tensor, labels: Tensor, names: Sequence[str] | None) -> Tensor:
    drawable = (boxes[:, 2:] > boxes[:, :2]).all(1)
    if not drawable.any():
        return image
    kinds = labels[drawable].tolist()
    return draw_bounding_boxes(
        image,
        boxes[drawable],
        labels=[str(kind) if names is None else names[kind] for kind in kinds],
        colors=[_COLORS[kind % len(_COLORS)] for kind in kinds],
    )
