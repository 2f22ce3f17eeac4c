"""One interface for all detectors: losses by part in training, boxes in evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lit_modules.inference.merging import BoxMerging
from lit_modules.metrics.detection import unpad_targets
from lit_modules.models.detection import Detections, YOLODetections, YOLOv3Loss
from lit_modules.models.yolov3 import YOLOv3

Targets = dict[str, Tensor]


class Detector(nn.Module, ABC):
    """Base of what `LitDetector` trains.

    Images are float ``(N, 3, H, W)`` in [0, 1]. Targets are padded: ``boxes`` ``(N, M, 4)``, left, top, right, bottom
    in pixels; ``labels`` ``(N, M)``, -1 where there is no box; if they are there, ``crowd`` and ``weights`` ``(N, M)``.
    """

    @abstractmethod
    def losses(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Compute the parts of the loss, to be added up."""

    @abstractmethod
    def detect(self, images: Tensor) -> list[Detections]:
        """Find the boxes of each image, labels from 0."""

    def forward(self, images: Tensor, targets: Targets | None = None) -> dict[str, Tensor] | list[Detections]:
        """Return `losses` if there are targets, else what `detect` finds."""
        return self.detect(images) if targets is None else self.losses(images, targets)


class YOLODetector(Detector):
    """A YOLOv3 with its losses and its way to boxes.

    Example::

        YOLODetector(YOLOv3(num_classes=20), YOLOv3Loss(label_smoothing=True))

    Args:
        network: The network.
        loss: What it is trained with; None is `YOLOv3Loss` as it stands.
        detections: What makes boxes of its outputs; None is `YOLODetections` as it stands.
    """

    def __init__(
        self, network: YOLOv3, loss: YOLOv3Loss | None = None, detections: YOLODetections | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = YOLOv3Loss() if loss is None else loss
        self.detections = YOLODetections() if detections is None else detections

    def losses(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        return self.loss(self.network(images), targets)

    def detect(self, images: Tensor) -> list[Detections]:
        return self.detections(self.network(images))


class TorchvisionDetector(Detector):
    """A detector of torchvision's: Faster R-CNN, RetinaNet, FCOS or SSD.

    Label 0 is the background there, so that it needs one class more than there are. Crowds are left out in training.

    Example::

        TorchvisionDetector(torchvision.models.detection.fasterrcnn_resnet50_fpn(num_classes=20 + 1))

    Args:
        network: The detector.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def losses(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Compute the parts of the loss.

        Raises:
            ValueError: If boxes have weights, which torchvision's detectors cannot use.
        """
        if "weights" in targets:
            raise ValueError(
                f"TorchvisionDetector: the boxes have weights, but {type(self.network).__name__} knows none. Leave out "
                f"what weights boxes."
            )
        truths = []
        for each in unpad_targets(targets):
            kept = ~each["crowd"] if "crowd" in each else torch.ones_like(each["labels"], dtype=torch.bool)
            truths.append({"boxes": each["boxes"][kept], "labels": each["labels"][kept] + 1})
        parts = self.network(list(images), truths)
        return {name.removeprefix("loss_"): part for name, part in parts.items()}

    def detect(self, images: Tensor) -> list[Detections]:
        found = self.network(list(images))
        return [{"boxes": each["boxes"], "scores": each["scores"], "labels": each["labels"] - 1} for each in found]


class DetectorEnsemble(Detector):
    """Several detectors as one, for inference: what they find is merged.

    Example::

        DetectorEnsemble([first, second], FusedBoxes())

    Args:
        members: The detectors.
        merging: Makes one list of boxes out of theirs.

    Raises:
        ValueError: If there are no members.
    """

    def __init__(self, members: Sequence[Detector], merging: BoxMerging) -> None:
        super().__init__()
        if not members:
            raise ValueError("DetectorEnsemble: there are no members to merge; give at least one detector.")
        self.members = nn.ModuleList(members)
        self.merging = merging

    def losses(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Refuse to train.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("DetectorEnsemble: several detectors are not trained together; train each by itself.")

    def detect(self, images: Tensor) -> list[Detections]:
        lists = zip(*(member(images) for member in self.members), strict=True)
        merged = [self.merging(several) for several in lists]
        return [{"boxes": each["boxes"], "scores": each["scores"], "labels": each["labels"]} for each in merged]
