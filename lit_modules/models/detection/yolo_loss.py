"""The losses of YOLOv3, by part."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.models.detection.assignment import Assignment, assign_boxes, find_ignored
from lit_modules.models.detection.grid import Grid, YOLOOutputs

Targets = dict[str, Tensor]


def _bce(raw: Tensor, wanted: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(raw, wanted, reduction="none")


_CENTERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": _bce,
    "l1": lambda raw, wanted: (raw.sigmoid() - wanted).abs(),
    "squared": lambda raw, wanted: (raw.sigmoid() - wanted) ** 2 / 2,
}
_SIZES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": lambda raw, wanted: (raw - wanted).abs(),
    "squared": lambda raw, wanted: (raw - wanted) ** 2 / 2,
}


class YOLOv3Loss(nn.Module):
    """What YOLOv3 minimizes (arXiv:1804.02767), with the choices of the bag of freebies (arXiv:1902.04103).

    Every box has one slot: the anchor of the most similar shape, in the cell of its centre. That slot learns
    objectness 1, the class and the box; box terms count 2 - w·h times, where w and h are the box's shares of the
    image, so that small boxes count more. All other slots learn objectness 0, but for those whose predicted box
    overlaps any true box by more than ``ignore_iou``. Each part is a sum over an image's slots, the mean over images.

    Args:
        ignore_iou: Predictions with a larger IoU with any truth are not held wrong. GluonCV and Darknet have 0.7, the
            paper's text 0.5.
        label_smoothing: Aim at 1 - δ for a box's class and δ for all others, δ = min(1/K, 1/40), as GluonCV does.
        center: The loss of the box's place in its cell: ``"bce"`` (GluonCV), ``"l1"``, or ``"squared"``, half the
            squared error (Darknet).
        size: The loss of log width and height over the anchor's: ``"l1"`` (GluonCV) or ``"squared"`` (Darknet).

    Raises:
        ValueError: If ``ignore_iou`` is not from 0 to 1, or ``center`` or ``size`` is no such loss.
    """

    def __init__(
        self,
        ignore_iou: float = 0.7,
        label_smoothing: bool = False,
        center: Literal["bce", "l1", "squared"] = "bce",
        size: Literal["l1", "squared"] = "l1",
    ) -> None:
        super().__init__()
        problems = [] if 0 <= ignore_iou <= 1 else [f"ignore_iou is {ignore_iou}; it must be from 0 to 1."]
        for name, choice, choices in (("center", center, _CENTERS), ("size", size, _SIZES)):
            if choice not in choices:
                problems.append(f"{name} is {choice!r}; it must be one of {', '.join(map(repr, choices))}.")
        if problems:
            raise ValueError("YOLOv3Loss: " + " ".join(problems))
        self.ignore_iou = ignore_iou
        self.label_smoothing = label_smoothing
        self.center = center
        self.size = size

    def forward(self, outputs: YOLOOutputs, targets: Targets) -> dict[str, Tensor]:
        """Compute ``objectness``, ``class``, ``center`` and ``size``, to be added up.

        Args:
            outputs: Of the network.
            targets: ``boxes`` ``(N, M, 4)``, left, top, right, bottom in pixels, and ``labels`` ``(N, M)``, -1 where
                there is no box; if they are there, ``weights`` ``(N, M)`` of the boxes, and ``crowd`` ``(N, M)``:
                boxes around many objects, which nothing is to predict, and in which nothing is wrong.
        """
        raw, grid = outputs
        raw = raw.float()
        boxes, labels = targets["boxes"].float(), targets["labels"]
        weights = targets.get("weights", torch.ones_like(boxes[..., 0])).float()
        crowd = targets.get("crowd")
        real = (labels >= 0) & (boxes[..., 2:] > boxes[..., :2]).all(-1)

        wanted = real if crowd is None else real & ~crowd
        assignment = assign_boxes(boxes, wanted, grid)
        with torch.no_grad():
            ignored = find_ignored(grid.decode(raw), boxes, real, self.ignore_iou, crowd)
        weights = weights * assignment.positive
        parts = {"objectness": self._objectness(raw[..., 4], assignment, ignored, weights)}
        own = raw.gather(1, assignment.slots[..., None].expand(-1, -1, raw.shape[-1]))
        parts["class"] = (self._classes(own[..., 5:], labels).sum(-1) * weights).sum()
        center, size = self._boxes(own, boxes, assignment.slots, grid)
        parts["center"], parts["size"] = (center * weights).sum(), (size * weights).sum()
        return {name: part / len(raw) for name, part in parts.items()}

    def _objectness(self, raw: Tensor, assignment: Assignment, ignored: Tensor, weights: Tensor) -> Tensor:
        """Sum over slots: weighted towards 1 for those of boxes, towards 0 for the others that are not ignored."""
        slots, positive = assignment
        taken = torch.zeros_like(raw).scatter_add(1, slots, positive.to(raw.dtype))
        counted = (1 - ignored.to(raw.dtype)) * (1 - taken)
        counted = counted.scatter_add(1, slots, weights.to(raw.dtype))
        return (_bce(raw, taken) * counted).sum()

    def _classes(self, raw: Tensor, labels: Tensor) -> Tensor:
        classes = raw.shape[-1]
        wanted = (labels[..., None] == torch.arange(classes, device=raw.device)).to(raw.dtype)
        if self.label_smoothing:
            delta = min(1 / classes, 1 / 40)
            wanted = wanted * (1 - 2 * delta) + delta
        return _bce(raw, wanted)

    def _boxes(self, raw: Tensor, boxes: Tensor, slots: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Losses of centre and size of each box, ``(N, M)``."""
        rows, columns = grid.shapes[0]
        stride = grid.scale_strides[0]
        sizes = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-6)  # padding has none
        scale = 2 - sizes.prod(-1) / (rows * stride * columns * stride)
        places = (boxes[..., :2] + boxes[..., 2:]) / 2 / grid.strides[slots] - grid.cells[slots]
        center = _CENTERS[self.center](raw[..., :2], places.clamp(0, 1)).sum(-1)
        size = _SIZES[self.size](raw[..., 2:4], (sizes / grid.anchors[slots]).log()).sum(-1)
        return center * scale, size * scale
