"""How a detector is scored: as Pascal VOC and as COCO do.

Both take the detections of a batch, a dict with ``boxes``, ``scores`` and ``labels`` for each image, and its targets as
padded tensors: ``boxes`` ``(N, M, 4)`` and ``labels`` ``(N, M)``, -1 where there is no box, and, if they are there,
``difficult`` and ``crowd`` ``(N, M)``.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.detection import MeanAveragePrecision

from lit_modules.metrics.average_precision import (
    IGNORED,
    RIGHT,
    Interpolation,
    average_precision,
    false_positives_at_recall,
    judge_detections,
)

_OF_BOXES = ("boxes", "labels", "difficult", "crowd")


def unpad_targets(targets: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Turn padded targets into a dict for each image, without padding."""
    kept = targets["labels"] >= 0
    present = [name for name in _OF_BOXES if name in targets]
    return [{name: targets[name][image][own] for name in present} for image, own in enumerate(kept)]


def _moved(image: Any, device: torch.device) -> Any:
    return image.to(device) if isinstance(image, Tensor) else image


class VOCAveragePrecision(Metric):
    """The mean average precision of Pascal VOC: ``map``, in [0, 1].

    Besides ``ap_<class>`` of each class that has true boxes, if the classes are named, and ``false_positives``: how
    many wrong detections an image costs to find a share of all true boxes, of all classes together.

    Args:
        num_classes: Number of classes.
        interpolation: ``"11_point"`` (VOC 2007) or ``"area"`` (VOC 2010 and later).
        iou_threshold: The IoU from which on a detection is right.
        class_names: Names of the classes, to log each by itself.
        recall: The share of true boxes that `false_positives` are counted for; None leaves them out.

    Raises:
        ValueError: If an argument is out of range.
    """

    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]
    outcomes: list[Tensor]
    truths: Tensor
    images: Tensor

    def __init__(
        self,
        num_classes: int,
        interpolation: Interpolation = "11_point",
        iou_threshold: float = 0.5,
        class_names: list[str] | None = None,
        recall: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        problems = []
        if num_classes < 1:
            problems.append(f"num_classes is {num_classes}; it must be at least 1.")
        if interpolation not in ("area", "11_point"):
            problems.append(f"interpolation is {interpolation!r}; it must be 'area' or '11_point'.")
        if not 0 < iou_threshold <= 1:
            problems.append(f"iou_threshold is {iou_threshold}; it must be above 0 and at most 1.")
        if class_names is not None and len(class_names) != num_classes:
            problems.append(f"there are {len(class_names)} class_names; there must be {num_classes}.")
        if recall is not None and not 0 < recall <= 1:
            problems.append(f"recall is {recall}; it must be above 0 and at most 1.")
        if problems:
            raise ValueError("VOCAveragePrecision: " + " ".join(problems))
        self.num_classes = num_classes
        self.interpolation: Interpolation = interpolation
        self.iou_threshold = iou_threshold
        self.class_names = class_names
        self.recall = recall
        for name in ("scores", "labels", "outcomes"):
            self.add_state(name, [], dist_reduce_fx="cat")
        self.add_state("truths", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, detections: Sequence[dict[str, Tensor]], targets: dict[str, Tensor]) -> None:
        """Add a batch."""
        for found, truths in zip(detections, unpad_targets(targets), strict=True):
            self.scores.append(found["scores"])
            self.labels.append(found["labels"])
            self.outcomes.append(judge_detections(found, truths, self.iou_threshold))
        counted = targets["labels"] >= 0
        for flag in ("difficult", "crowd"):
            if flag in targets:
                counted = counted & ~targets[flag]
        classes = torch.arange(self.num_classes, device=counted.device)
        # not in place: a state that Lightning reset in inference mode could not be written outside of it
        self.truths = self.truths + ((targets["labels"][..., None] == classes) & counted[..., None]).sum((0, 1))
        self.images = self.images + len(counted)

    def compute(self) -> dict[str, Tensor]:
        scores, labels, outcomes = (_joined(state) for state in (self.scores, self.labels, self.outcomes))
        judged = outcomes != IGNORED
        scores, labels, right = scores[judged], labels[judged], outcomes[judged] == RIGHT
        truths = self.truths.tolist()
        each = torch.tensor(
            [
                average_precision(scores[labels == label], right[labels == label], count, self.interpolation)
                for label, count in enumerate(truths)
            ]
        )
        made = {"map": each.nanmean()}
        for name, value in zip(self.class_names or (), each, strict=False):
            if not value.isnan():
                made[f"ap_{name}"] = value
        if self.recall is not None:
            wrong = false_positives_at_recall(scores, right, sum(truths), self.recall)
            made["false_positives"] = torch.tensor(wrong / max(int(self.images), 1))
        return made


class COCOAveragePrecision(MeanAveragePrecision):
    """The mean average precision of COCO, by faster-coco-eval: ``map``, ``map_50``, ``map_75``, all in [0, 1].

    Besides ``map_small``, ``map_medium`` and ``map_large`` where there are such boxes, by their pixels of the input,
    and, if the classes are named, ``ap_<class>`` of each that has true boxes. Crowds are ignored; difficult boxes count
    as any other, for COCO knows none.

    Args:
        class_names: Names of the classes, to log each by itself.
    """

    def __init__(self, class_names: list[str] | None = None, **settings: Any) -> None:
        super().__init__(backend="faster_coco_eval", class_metrics=class_names is not None, **settings)
        self.class_names = class_names

    def update(self, detections: Sequence[dict[str, Tensor]], targets: dict[str, Tensor]) -> None:  # type: ignore[override]
        """Add a batch."""
        truths = [
            {"boxes": each["boxes"], "labels": each["labels"]}
            | ({"iscrowd": each["crowd"].int()} if "crowd" in each else {})
            for each in unpad_targets(targets)
        ]
        super().update([dict(found) for found in detections], truths)

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any | None = None) -> None:
        """Gather the images of all processes, in the order in which a distributed sampler dealt them.

        torchmetrics gathers image by image, and breaks where one process has an image more than another.
        """
        names = [name for name, default in self._defaults.items() if isinstance(default, list)]
        own = {name: [_moved(image, torch.device("cpu")) for image in getattr(self, name)] for name in names}
        gathered: list[Any] = [None] * dist.get_world_size(process_group)
        dist.all_gather_object(gathered, own, process_group)
        for name in names:
            rounds = itertools.zip_longest(*(states[name] for states in gathered))
            setattr(self, name, [_moved(image, self.device) for turn in rounds for image in turn if image is not None])

    def compute(self) -> dict[str, Tensor]:
        found = super().compute()
        names = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
        made = {name: found[name] for name in names if found[name] >= 0}
        if self.class_names is not None:
            labels, each = found["classes"].reshape(-1), found["map_per_class"].reshape(-1)
            made |= {
                f"ap_{self.class_names[label]}": ap for label, ap in zip(labels.tolist(), each, strict=True) if ap >= 0
            }
        return made


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """The state in one piece: before a reduction over processes it is a list."""
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else torch.zeros(0)
