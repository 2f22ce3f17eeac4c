"""One list of boxes out of several, found in several views of an image or by several networks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

Found = dict[str, Tensor]
"""Of one image: ``boxes`` ``(D, 4)``, left, top, right, bottom; ``scores`` and ``labels`` ``(D,)``."""


class BoxMerging(ABC):
    """Base class: makes one list of boxes of those that were found several times.

    Args:
        iou: Boxes of one class with a larger IoU are taken for the same object.
        top_k: How many boxes of an image come out at most, the best.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, iou: float, top_k: int = 100) -> None:
        problems = [] if 0 <= iou <= 1 else [f"iou is {iou}; it must be from 0 to 1."]
        if top_k < 1:
            problems.append(f"top_k is {top_k}; it must be at least 1.")
        if problems:
            raise ValueError(f"{type(self).__name__}: {' '.join(problems)}")
        self.iou = iou
        self.top_k = top_k

    def __call__(self, lists: Sequence[Found]) -> Found:
        """Merge what was found of one image, a list from each view or network; the best score comes first."""
        joined = {name: torch.cat([found[name] for found in lists]) for name in ("boxes", "scores", "labels")}
        merged = self.merge(**joined, lists=len(lists))
        best = merged["scores"].argsort(descending=True, stable=True)[: self.top_k]
        return {name: part[best] for name, part in merged.items()}

    @abstractmethod
    def merge(self, boxes: Tensor, scores: Tensor, labels: Tensor, lists: int) -> Found:
        """Merge the boxes of all lists, in any order.

        Args:
            boxes: ``(D, 4)``.
            scores: ``(D,)``.
            labels: ``(D,)``.
            lists: How many lists they come from.
        """


class SuppressedBoxes(BoxMerging):
    """Keep the best of the boxes that overlap, as in non-maximum suppression.

    Args:
        iou: Of two boxes of a class with a larger IoU, only the better stays.
        top_k: How many boxes of an image come out at most.
    """

    def __init__(self, iou: float = 0.45, top_k: int = 100) -> None:
        super().__init__(iou, top_k)

    def merge(self, boxes: Tensor, scores: Tensor, labels: Tensor, lists: int) -> Found:
        kept = batched_nms(boxes, scores, labels, self.iou)
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


class FusedBoxes(BoxMerging):
    """Average the boxes that overlap, weighted by their scores (weighted boxes fusion, arXiv:1910.13302).

    A box joins the best of those that non-maximum suppression keeps, and that it overlaps; so clusters form around the
    best boxes in one step, where the paper lets their centres move from box to box. As there, the score is the mean of
    the cluster's, times the share of the lists that it has boxes for: what one view alone sees counts for less.

    Args:
        iou: Boxes of a class with a larger IoU are one object.
        top_k: How many boxes of an image come out at most.
    """

    def __init__(self, iou: float = 0.55, top_k: int = 100) -> None:
        super().__init__(iou, top_k)

    def merge(self, boxes: Tensor, scores: Tensor, labels: Tensor, lists: int) -> Found:
        kept = batched_nms(boxes, scores, labels, self.iou)
        if not len(kept):
            return {"boxes": boxes, "scores": scores, "labels": labels}
        near = (box_iou(boxes[kept], boxes) > self.iou) & (labels[kept][:, None] == labels)
        near[torch.arange(len(kept), device=kept.device), kept] = True  # a box without area overlaps not even itself
        owner = near.to(torch.uint8).argmax(0)  # the first is the best
        weights = torch.zeros(near.shape, dtype=scores.dtype, device=scores.device)
        weights[owner, torch.arange(len(boxes), device=boxes.device)] = scores
        totals, sizes = weights.sum(1), owner.bincount(minlength=len(kept))
        fused = weights @ boxes.to(scores.dtype) / totals[:, None].clamp(min=torch.finfo(scores.dtype).tiny)
        return {
            "boxes": fused.to(boxes.dtype),
            "scores": totals / sizes * sizes.clamp(max=lists) / lists,
            "labels": labels[kept],
        }
