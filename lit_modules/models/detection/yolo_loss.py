"""The losses of YOLOv3, by part."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from lit_modules.models.detection.assignment import Assignment, assign_boxes, find_ignored
from lit_modules.models.detection.box_losses import Aims, BoxLoss, CenterAndSize
from lit_modules.models.detection.grid import YOLOOutputs

Targets = dict[str, Tensor]


class YOLOv3Loss(nn.Module):
    """What YOLOv3 minimizes (arXiv:1804.02767), with the choices of the bag of freebies (arXiv:1902.04103).

    Every box has one slot: the anchor of the most similar shape, in the cell of its centre. That slot learns
    objectness 1, the class and the box. All other slots learn objectness 0, but for those whose predicted box
    overlaps any true box by more than ``ignore_iou``. Each part is a sum over an image's slots, the mean over images.

    Args:
        ignore_iou: Predictions with a larger IoU with any truth are not held wrong. GluonCV and Darknet have 0.7, the
            paper's text 0.5.
        label_smoothing: Aim at 1 - δ for a box's class and δ for all others, δ = min(1/K, 1/40), as GluonCV does.
        boxes: What is learned of a box; None is `CenterAndSize` as it stands.
        focal_gamma: Weight the objectness of a slot by (1 - p)^gamma, where p is the probability of what is right, so
            that the many easy empty slots count little (arXiv:1708.02002, equation 4). 0 does not.
        focal_alpha: Weight slots of boxes by this besides, and empty ones by 1 - this (equation 5); None does not.
        negatives_per_box: Of a batch's empty slots count only those with the largest losses, so many for each box, or
            for one where there is none (hard negative mining: arXiv:1512.02325, section 2.2; arXiv:1604.03540). None
            counts all.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        ignore_iou: float = 0.7,
        label_smoothing: bool = False,
        boxes: BoxLoss | None = None,
        focal_gamma: float = 0.0,
        focal_alpha: float | None = None,
        negatives_per_box: float | None = None,
    ) -> None:
        super().__init__()
        problems = []
        for name, share in {"ignore_iou": ignore_iou, "focal_alpha": focal_alpha}.items():
            if share is not None and not 0 <= share <= 1:
                problems.append(f"{name} is {share}; it must be from 0 to 1.")
        if not focal_gamma >= 0:
            problems.append(f"focal_gamma is {focal_gamma}; it must be at least 0.")
        if negatives_per_box is not None and not negatives_per_box > 0:
            problems.append(f"negatives_per_box is {negatives_per_box}; it must be above 0.")
        if problems:
            raise ValueError("YOLOv3Loss: " + " ".join(problems))
        self.ignore_iou = ignore_iou
        self.label_smoothing = label_smoothing
        self.boxes = CenterAndSize() if boxes is None else boxes
        self.focal_gamma = focal_gamma
        self.focal_alpha = focal_alpha
        self.negatives_per_box = negatives_per_box

    def forward(self, outputs: YOLOOutputs, targets: Targets) -> dict[str, Tensor]:
        """Compute ``objectness``, ``class`` and the parts of ``boxes``, to be added up.

        Args:
            outputs: Of the network.
            targets: ``boxes`` ``(N, M, 4)``, left, top, right, bottom in pixels, and ``labels`` ``(N, M)``, -1 where
                there is no box; if they are there, ``weights`` ``(N, M)`` of the boxes, and ``crowd`` ``(N, M)``:
                boxes around many objects, which nothing is to predict, and in which nothing is wrong.
        """
        raw, grid, variances = outputs
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
        own = raw[..., 5:].gather(1, assignment.slots[..., None].expand(-1, -1, raw.shape[-1] - 5))
        aims = Aims.make(YOLOOutputs(raw, grid, None if variances is None else variances.float()), boxes, assignment)
        parts = {"class": self._classes(own, labels).sum(-1), **self.boxes(aims)}
        sums = {name: (part * weights).sum() / len(raw) for name, part in parts.items()}
        return {"objectness": self._objectness(raw[..., 4], assignment, ignored, weights) / len(raw), **sums}

    def _objectness(self, raw: Tensor, assignment: Assignment, ignored: Tensor, weights: Tensor) -> Tensor:
        """Sum over slots: weighted towards 1 for those of boxes, towards 0 for the others that are not ignored."""
        slots, positive = assignment
        taken = torch.zeros_like(raw).scatter_add(1, slots, positive.to(raw.dtype))
        if self.focal_gamma == 0 and self.focal_alpha is None:
            losses = F.binary_cross_entropy_with_logits(raw, taken, reduction="none")
        else:
            alpha = -1 if self.focal_alpha is None else self.focal_alpha  # -1 is none there
            losses = sigmoid_focal_loss(raw, taken, alpha, self.focal_gamma)
        counted = (1 - ignored.to(raw.dtype)) * (1 - taken)
        if self.negatives_per_box is not None:
            limit = self.negatives_per_box * positive.sum().clamp(min=1)
            counted = counted * _find_largest(losses.detach() * counted, limit)
        counted = counted.scatter_add(1, slots, weights.to(raw.dtype))
        return (losses * counted).sum()

    def _classes(self, raw: Tensor, labels: Tensor) -> Tensor:
        classes = raw.shape[-1]
        wanted = (labels[..., None] == torch.arange(classes, device=raw.device)).to(raw.dtype)
        if self.label_smoothing:
            delta = min(1 / classes, 1 / 40)
            wanted = wanted * (1 - 2 * delta) + delta
        return F.binary_cross_entropy_with_logits(raw, wanted, reduction="none")


def _find_largest(losses: Tensor, count: Tensor) -> Tensor:
    """Return 1 where one of the ``count`` largest losses of the batch stands, 0 elsewhere."""
    order = losses.flatten().argsort(descending=True)
    among = torch.arange(len(order), device=losses.device) < count
    return torch.zeros_like(losses.flatten()).scatter(0, order, among.to(losses.dtype)).view_as(losses)
