"""A second opinion on what was detected: each box is cut out and classified by another network."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, roi_align

from lit_modules.inference.merging import Found
from lit_modules.pretrained_weights import PretrainedWeights

NetworkCallable = Callable[[], nn.Module]


class CropClassifier:
    """Classifies what a detector found, as R-CNN classifies its regions (Girshick et al. 2014, arXiv:1311.2524; beside
    a whole detector Cheng et al. 2018, arXiv:1803.06799).

    A box gets the classifier's class, and its score is multiplied by the probability of that. Boxes that are of one
    class only now are suppressed once more.

    Example::

        Inference(classifier=CropClassifier(partial(ResNet, num_classes=3, layers=[1, 1, 1], block="basic"),
                                            "weights/last.safetensors", size=32))

    Args:
        network: Makes the classifier, from images ``(N, 3, size, size)`` in [0, 1], even if the detector's are
            normalized, to scores of the detector's classes, in their order. `write_crops` of ``datamodules.detection``
            makes images for its training.
        weights: File of its weights, as `PretrainedWeights` takes it.
        size: Side in pixels to which boxes are resized.
        margin: How much more than the box is seen, as a share of its sides, on each of them.
        prefix: Read only what begins with this in the file: ``"network."`` for weights of `LitClassifier`.
        nms_iou: Of two boxes of a class with a larger IoU, only the better stays.

    Raises:
        ValueError: If an argument is out of range or, with the first images, the file does not fit the network or the
            detector has more classes.
        FileNotFoundError: With the first images, if there is no such file.
    """

    def __init__(
        self,
        network: NetworkCallable,
        weights: str,
        size: int = 32,
        margin: float = 0.0,
        prefix: str = "network.",
        nms_iou: float = 0.45,
    ) -> None:
        problems = [] if size >= 1 else [f"size is {size}; it must be at least 1."]
        if not margin >= 0:
            problems.append(f"margin is {margin}; it must be at least 0.")
        if not 0 <= nms_iou <= 1:
            problems.append(f"nms_iou is {nms_iou}; it must be from 0 to 1.")
        if problems:
            raise ValueError("CropClassifier: " + " ".join(problems))
        self.network = network
        self.weights = PretrainedWeights(weights, prefix=prefix)
        self.size = size
        self.margin = margin
        self.nms_iou = nms_iou
        self._classifier: nn.Module | None = None

    @staticmethod
    def source_files(init_args: Mapping[str, Any]) -> list[Path]:
        """Return the files that decide the scores, given the arguments of the class."""
        return PretrainedWeights.source_files(init_args)

    def __call__(self, images: Tensor, found: list[Found]) -> list[Found]:
        """Classify what was found on images ``(N, 3, H, W)`` in [0, 1] again; the best score of each comes first."""
        if self._classifier is None:
            self._classifier = self._load(images.device)
        chances = self._classify(images, [each["boxes"] for each in found])
        return [self._decide(each, own) for each, own in zip(found, chances, strict=True)]

    def _classify(self, images: Tensor, boxes: list[Tensor]) -> list[Tensor]:
        """Return the probabilities ``(D, K)`` of each image's boxes."""
        assert self._classifier is not None
        crops = roi_align(images.float(), [self._grow(each) for each in boxes], self.size, aligned=True)
        scores = self._classifier(crops).float() if len(crops) else crops.new_zeros(0, 1)
        return list(scores.softmax(1).split([len(each) for each in boxes]))

    def _grow(self, boxes: Tensor) -> Tensor:
        margins = (boxes[:, 2:] - boxes[:, :2]) * self.margin
        return torch.cat([boxes[:, :2] - margins, boxes[:, 2:] + margins], 1)

    def _decide(self, found: Found, chances: Tensor) -> Found:
        if not len(chances):
            return found
        if int(found["labels"].max()) >= chances.shape[1]:
            raise ValueError(
                f"CropClassifier: the classifier has {chances.shape[1]} classes, but the detector finds class "
                f"{int(found['labels'].max())}, counted from 0. Both must have the same classes."
            )
        certainty, labels = chances.max(1)
        boxes, scores = found["boxes"], found["scores"] * certainty
        kept = batched_nms(boxes, scores, labels, self.nms_iou)
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}

    def _load(self, device: torch.device) -> nn.Module:
        """Build the classifier, without moving the global random generators."""
        with torch.random.fork_rng():
            network = self.network()
        self.weights(network)
        return network.requires_grad_(False).eval().to(device)
