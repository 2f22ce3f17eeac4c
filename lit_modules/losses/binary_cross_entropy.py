"""Binary cross entropy."""

import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.losses.targets import REDUCTIONS, Reduction, check_label_smoothing, to_class_weights


class BinaryCrossEntropy(nn.Module):
    """Each label apart, present or not: cross entropy of the sigmoid of its score, the mean over labels.

    For images of several labels, and for those of one, as in Wightman et al. 2021, arXiv:2110.00476, section 3. It is
    torch's ``BCEWithLogitsLoss`` that takes labels ``(N,)`` too and whose samples can be told apart.

    Example::

        loss = BinaryCrossEntropy()(scores, several_labels)

    Args:
        label_smoothing: Share of the target's weight that is spread over all K labels, as in timm: a target t becomes
            t (1 - smoothing) + smoothing / K.
        reduction: ``"mean"`` over samples, or ``"none"``.

    Raises:
        ValueError: If ``label_smoothing`` is not from 0 to 1.
    """

    def __init__(self, label_smoothing: float = 0.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_label_smoothing("BinaryCrossEntropy", label_smoothing)
        self.label_smoothing = label_smoothing
        self.reduction = reduction

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Map scores ``(N, K)`` and targets, labels ``(N,)`` or the weight of each label ``(N, K)``, to the loss."""
        weights = to_class_weights(targets, scores, self.label_smoothing)
        losses = F.binary_cross_entropy_with_logits(scores, weights, reduction="none").mean(1)
        return REDUCTIONS[self.reduction](losses)
