"""Cross entropy with a weight for each class."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.losses.targets import REDUCTIONS, Reduction, check_label_smoothing


class ClassWeightedCrossEntropy(nn.Module):
    """Cross entropy in which each class has a weight, by default the inverse of how frequent it is.

    The weights are scaled so that their mean over the training samples is 1: the learning rate keeps its meaning, and a
    batch of rare classes counts for more, unlike in torch's mean, which divides by the weights of the batch. The
    frequencies come from the training targets, through `learn_frequencies`, which `LitClassifier` calls when training
    begins; until then all weights are 1. They are stored with the weights of the network.

    Example::

        loss = ClassWeightedCrossEntropy(num_classes=3)
        loss.learn_frequencies(torch.tensor([0, 0, 0, 1, 2]))
        loss.weight  # 5/9, 5/3, 5/3

    Args:
        num_classes: Number of classes.
        weights: How much a sample of each class counts, relative to the others. None is inverse frequency,
            N / (K n) for a class of n samples.
        label_smoothing: Share of the target's weight that is spread over all classes.
        reduction: ``"mean"`` over samples, or ``"none"``.

    Raises:
        ValueError: If there are not as many weights as classes, some are negative or all are 0, or ``label_smoothing``
            is not from 0 to 1.
    """

    weight: Tensor

    def __init__(
        self,
        num_classes: int,
        weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_label_smoothing("ClassWeightedCrossEntropy", label_smoothing)
        if weights is not None and (len(weights) != num_classes or min(weights) < 0 or not any(weights)):
            raise ValueError(
                f"ClassWeightedCrossEntropy: weights is {list(weights)}; it must list {num_classes} numbers, one for "
                f"each class, none of them negative and not all 0."
            )
        self.relative = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        self.label_smoothing = label_smoothing
        self.reduction = reduction
        self.register_buffer("weight", torch.ones(num_classes))

    def learn_frequencies(self, targets: Tensor) -> None:
        """Set the weights by the classes of the training samples.

        Args:
            targets: Labels ``(N,)``, or class weights or several labels as zeros and ones ``(N, K)``.

        Raises:
            ValueError: If the only classes that occur have the weight 0.
        """
        classes = len(self.weight)
        counts = torch.bincount(targets, minlength=classes) if targets.ndim == 1 else targets.sum(0)
        counts = counts.double().cpu()
        relative = torch.where(counts > 0, 1 / counts, 0.0) if self.relative is None else self.relative
        mean = (counts * relative).sum() / counts.sum()
        if not mean > 0:
            raise ValueError("ClassWeightedCrossEntropy: no class of the training samples has a weight above 0.")
        self.weight.copy_(relative / mean)

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Map scores ``(N, K)`` and targets, labels ``(N,)`` or class weights ``(N, K)``, to the loss."""
        losses = F.cross_entropy(
            scores, targets, weight=self.weight, label_smoothing=self.label_smoothing, reduction="none"
        )
        return REDUCTIONS[self.reduction](losses)
