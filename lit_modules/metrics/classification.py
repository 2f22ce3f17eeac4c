"""How a classifier is scored, by the kind of its targets.

Both take the scores and targets of a batch as the classifier has them. Compute groups are off: to find them,
torchmetrics compares the states of metrics, which waits for the device.
"""

from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MultilabelAveragePrecision, MultilabelF1Score


class SingleLabelMetrics(MetricCollection):
    """The accuracy of images that have one class each: ``accuracy``."""

    def __init__(self) -> None:
        # A micro average needs no number of classes, and without it torchmetrics checks no values: no wait either.
        super().__init__({"accuracy": MulticlassAccuracy(average="micro")}, compute_groups=False)

    def update(self, scores: Tensor, targets: Tensor) -> None:  # type: ignore[override]  # ModuleDict has one too
        """Add a batch: scores ``(N, K)`` and targets, labels ``(N,)`` or class weights ``(N, K)``."""
        super().update(scores, targets if targets.ndim == 1 else targets.argmax(1))


class MultiLabelMetrics(MetricCollection):
    """The scores of images that have several labels each: ``map`` and ``f1``.

    ``map`` is the average precision of a label, ``f1`` its F1 where a score above 0, a probability above one half, says
    that the label is there; each is the mean over labels. A label that no image has is left out of ``map``.

    Args:
        num_labels: Number of labels.
    """

    def __init__(self, num_labels: int) -> None:
        kinds = {"map": MultilabelAveragePrecision, "f1": MultilabelF1Score}
        metrics = {name: kind(num_labels, average="macro", validate_args=False) for name, kind in kinds.items()}
        super().__init__(metrics, compute_groups=False)

    def update(self, scores: Tensor, targets: Tensor) -> None:  # type: ignore[override]  # ModuleDict has one too
        """Add a batch: scores ``(N, K)``, and zeros and ones ``(N, K)``."""
        super().update(scores.sigmoid(), targets.int())  # torchmetrics guesses by the values if they are not within 0-1
