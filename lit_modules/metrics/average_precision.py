"""Average precision as Pascal VOC defines it, from detections that are matched with true boxes.

A detection is judged by the true box of its class and image that it overlaps most: it is right if the IoU is at least
the threshold and no better-scored detection was judged right by that box; it is ignored if that box is difficult or a
crowd.
"""

from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import box_iou

RIGHT, WRONG, IGNORED = 1, 0, -1

Interpolation = Literal["area", "11_point"]


def judge_detections(detections: dict[str, Tensor], truths: dict[str, Tensor], iou_threshold: float = 0.5) -> Tensor:
    """Judge the detections of one image.

    Args:
        detections: ``boxes`` ``(D, 4)``, ``scores`` ``(D,)`` and ``labels`` ``(D,)``.
        truths: ``boxes`` ``(T, 4)`` and ``labels`` ``(T,)``; if they are there, ``difficult`` and ``crowd`` ``(T,)``.
        iou_threshold: The IoU from which on a detection is right.

    Returns:
        1 for right, 0 for wrong, -1 for ignored, ``(D,)``.
    """
    scores, count = detections["scores"], len(truths["boxes"])
    outcomes = torch.full_like(scores, WRONG, dtype=torch.int8)
    if not count or not len(scores):
        return outcomes
    overlaps = box_iou(detections["boxes"], truths["boxes"])
    overlaps = overlaps.masked_fill(detections["labels"][:, None] != truths["labels"], -1)
    best, judge = overlaps.max(1)
    enough = best >= iou_threshold

    rank = torch.empty_like(judge)
    rank[scores.argsort(descending=True, stable=True)] = torch.arange(len(scores), device=scores.device)
    late = len(scores)
    first = torch.full((count,), late, device=judge.device).scatter_reduce(
        0, judge, torch.where(enough, rank, late), "amin"
    )
    outcomes[enough & (first[judge] == rank)] = RIGHT
    for flag in ("difficult", "crowd"):
        if flag in truths:
            outcomes[enough & truths[flag][judge]] = IGNORED
    return outcomes


def average_precision(scores: Tensor, right: Tensor, truths: int, interpolation: Interpolation = "area") -> float:
    """Compute the average precision of one class.

    Args:
        scores: Of the detections in all images, ``(D,)``.
        right: Whether each is right, ``(D,)``.
        truths: Number of true boxes.
        interpolation: ``"area"`` is the area below the precision, made falling (VOC 2010 and later); ``"11_point"`` its
            mean at recalls 0, 0.1, …, 1 (VOC 2007).

    Returns:
        From 0 to 1; NaN if there are no true boxes.
    """
    if not truths:
        return float("nan")
    if not len(scores):
        return 0.0
    hits = right[scores.argsort(descending=True, stable=True)].long().cumsum(0)
    precision = hits.double() / torch.arange(1, len(hits) + 1, device=hits.device)
    # the best precision at this recall or a higher one
    envelope = precision.flip(0).cummax(0).values.flip(0)
    if interpolation == "area":
        gains = hits.diff(prepend=hits.new_zeros(1))
        return float((envelope * gains).sum() / truths)
    # in whole numbers: 0.1 * 3 is above 0.3
    reached = hits * 10 >= torch.arange(11, device=hits.device)[:, None] * truths
    return float(torch.where(reached.any(1), envelope[reached.int().argmax(1)], 0.0).mean())


def false_positives_at_recall(scores: Tensor, right: Tensor, truths: int, recall: float) -> float:
    """Count the wrong detections that one has to accept to find a share of all true boxes.

    Args:
        scores: Of the detections in all images, ``(D,)``.
        right: Whether each is right, ``(D,)``.
        truths: Number of true boxes.
        recall: The share, above 0 and at most 1.

    Returns:
        Number of wrong detections with a score of at least the highest threshold that finds that share; infinite if no
        threshold does, NaN if there are no true boxes.
    """
    if not truths:
        return float("nan")
    order = scores.argsort(descending=True, stable=True)
    hits = right[order].long().cumsum(0)
    found = (hits.double() >= recall * truths - 1e-9).nonzero().flatten()
    if not len(found):
        return float("inf")
    accepted = scores >= scores[order][found[0]]
    return float((accepted & (right == 0)).sum())
