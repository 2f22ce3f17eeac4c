"""What the slot of a box learns about the box: its place and size, or its overlap.

A box loss counts each box by itself; `YOLOv3Loss` weights the boxes and adds them up.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from lit_modules.models.detection.assignment import Assignment
from lit_modules.models.detection.grid import YOLOOutputs


class Aims(NamedTuple):
    """True boxes and what their slots say, for each box of a padded batch.

    Args:
        boxes: Left, top, right, bottom in pixels, all with an area, ``(N, M, 4)``.
        predicted: The slots' boxes, likewise, ``(N, M, 4)``.
        raw: The slots' x, y, log width and log height before any activation, ``(N, M, 4)``.
        places: What the sigmoid of x and y is to be, ``(N, M, 2)``.
        log_sizes: What log width and log height are to be, ``(N, M, 2)``.
        scale: 2 - w·h, with w and h the box's shares of the image, ``(N, M)``.
        variances: Of the slots, before the sigmoid, ``(N, M, 4)``; None if the network tells none.
    """

    boxes: Tensor
    predicted: Tensor
    raw: Tensor
    places: Tensor
    log_sizes: Tensor
    scale: Tensor
    variances: Tensor | None

    @staticmethod
    def make(outputs: YOLOOutputs, boxes: Tensor, assignment: Assignment) -> "Aims":
        """Gather what the slots of boxes ``(N, M, 4)`` say; padding becomes boxes of one pixel."""
        raw, grid, variances = outputs
        slots = assignment.slots
        pixel = boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
        boxes = torch.where(assignment.positive[..., None], boxes, pixel)
        places = slots[..., None].expand(-1, -1, 4)
        own = raw[..., :4].gather(1, places)
        cells, strides, anchors = grid.cells[slots], grid.strides[slots], grid.anchors[slots]
        rows, columns = grid.shapes[0]
        image_area = rows * columns * grid.scale_strides[0] ** 2
        sizes = boxes[..., 2:] - boxes[..., :2]
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        return Aims(
            boxes=boxes,
            predicted=grid._replace(cells=cells, strides=strides, anchors=anchors).decode(own),
            raw=own,
            places=(centres / strides - cells).clamp(0, 1),
            log_sizes=(sizes / anchors).log(),
            scale=2 - sizes.prod(-1) / image_area,
            variances=None if variances is None else variances.gather(1, places),
        )


class BoxLoss(nn.Module, ABC):
    """Base of the losses of boxes."""

    @abstractmethod
    def forward(self, aims: Aims) -> dict[str, Tensor]:
        """Return the parts of the loss by name, each ``(N, M)``."""


_Elementwise = Callable[[Tensor, Tensor], Tensor]

_CENTERS: dict[str, _Elementwise] = {
    "bce": lambda raw, wanted: F.binary_cross_entropy_with_logits(raw, wanted, reduction="none"),
    "l1": lambda raw, wanted: (raw.sigmoid() - wanted).abs(),
    "squared": lambda raw, wanted: (raw.sigmoid() - wanted) ** 2 / 2,
}
_SIZES: dict[str, _Elementwise] = {
    "l1": lambda raw, wanted: (raw - wanted).abs(),
    "squared": lambda raw, wanted: (raw - wanted) ** 2 / 2,
}


class CenterAndSize(BoxLoss):
    """YOLOv3's own: ``center`` and ``size``, each 2 - w·h times, so that small boxes count more (arXiv:1804.02767).

    Args:
        center: The loss of the box's place in its cell: ``"bce"`` (GluonCV), ``"l1"``, or ``"squared"``, half the
            squared error (Darknet).
        size: The loss of log width and height over the anchor's: ``"l1"`` (GluonCV) or ``"squared"`` (Darknet).

    Raises:
        ValueError: If ``center`` or ``size`` is no such loss.
    """

    def __init__(self, center: Literal["bce", "l1", "squared"] = "bce", size: Literal["l1", "squared"] = "l1") -> None:
        super().__init__()
        problems = [
            f"{name} is {choice!r}; it must be one of {', '.join(map(repr, choices))}."
            for name, choice, choices in (("center", center, _CENTERS), ("size", size, _SIZES))
            if choice not in choices
        ]
        if problems:
            raise ValueError("CenterAndSize: " + " ".join(problems))
        self.center = center
        self.size = size

    def forward(self, aims: Aims) -> dict[str, Tensor]:
        center = _CENTERS[self.center](aims.raw[..., :2], aims.places).sum(-1)
        size = _SIZES[self.size](aims.raw[..., 2:], aims.log_sizes).sum(-1)
        return {"center": center * aims.scale, "size": size * aims.scale}


class OverlapLoss(BoxLoss):
    """1 - IoU of the predicted box with the true one, or of one of its successors, as ``overlap``.

    ``"giou"`` takes off the share of the hull that is in neither box (arXiv:1902.09630), ``"diou"`` the squared
    distance of the centres over that of the hull's corners, and ``"ciou"`` also the difference of proportions (both
    arXiv:1911.08287). All sizes of boxes count alike: an overlap knows no scale.

    Example::

        YOLOv3Loss(boxes=OverlapLoss("ciou"))

    Args:
        kind: Which.
        weight: How much it counts. The default is what 2 - w·h, which `CenterAndSize` has, is for small boxes.

    Raises:
        ValueError: If there is no such kind, or ``weight`` is not above 0.
    """

    def __init__(self, kind: Literal["iou", "giou", "diou", "ciou"] = "giou", weight: float = 2.0) -> None:
        super().__init__()
        problems = []
        if kind not in _OVERLAPS:
            problems.append(f"kind is {kind!r}; it must be one of {', '.join(map(repr, _OVERLAPS))}.")
        if not weight > 0:
            problems.append(f"weight is {weight}; it must be above 0.")
        if problems:
            raise ValueError("OverlapLoss: " + " ".join(problems))
        self.kind = kind
        self.weight = weight

    def forward(self, aims: Aims) -> dict[str, Tensor]:
        return {"overlap": self.weight * _OVERLAPS[self.kind](aims.predicted, aims.boxes)}


def _iou_loss(first: Tensor, second: Tensor) -> Tensor:
    """1 - IoU of boxes ``(..., 4)``, pair by pair."""
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    overlap = sides.clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first, second)]
    return 1 - overlap / (areas[0] + areas[1] - overlap + 1e-7)


_OVERLAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "iou": _iou_loss,
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}


class GaussianBoxLoss(BoxLoss):
    """The negative log-likelihood of place and size under normals that the network predicts, as ``center`` and ``size``
    (Choi et al. 2019, arXiv:1904.04620, equations 5 and 6).

    The means are those of `CenterAndSize`, the variances the sigmoids of the network's. Each of the four counts
    (2 - w·h) / 2 times, and the density has 1e-9 added, so that a box that lies far off is given up. A likelihood may
    be above 1 and the loss below 0.

    Example::

        YOLODetector(YOLOv3(num_classes=20, box_variances=True), YOLOv3Loss(boxes=GaussianBoxLoss()))

    Args:
        smallest_variance: Smaller variances count as this, which the paper does not do. On boxes known by heart they
            fall to 0 otherwise, and the gradients of boxes leave nothing to objectness and classes.

    Raises:
        ValueError: If ``smallest_variance`` is not above 0 and below 1; when a network comes that tells no variances.
    """

    def __init__(self, smallest_variance: float = 0.01) -> None:
        super().__init__()
        if not 0 < smallest_variance < 1:
            raise ValueError(
                f"GaussianBoxLoss: smallest_variance is {smallest_variance}; it must be above 0 and below 1."
            )
        self.smallest_variance = smallest_variance

    def forward(self, aims: Aims) -> dict[str, Tensor]:
        if aims.variances is None:
            raise ValueError("GaussianBoxLoss: the network tells no variances. Set its box_variances.")
        means = torch.cat([aims.raw[..., :2].sigmoid(), aims.raw[..., 2:]], -1)
        errors = torch.cat([aims.places, aims.log_sizes], -1) - means
        log_variances = F.logsigmoid(aims.variances).clamp(min=math.log(self.smallest_variance))
        log_density = -(errors**2 * (-log_variances).exp() + log_variances + math.log(2 * math.pi)) / 2
        floor = torch.full_like(log_density, math.log(1e-9))
        loss = -torch.logaddexp(log_density, floor) * aims.scale[..., None] / 2
        return {"center": loss[..., :2].sum(-1), "size": loss[..., 2:].sum(-1)}
