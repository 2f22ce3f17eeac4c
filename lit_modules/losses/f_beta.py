"""Soft F-beta."""

import torch
from torch import Tensor, nn

from lit_modules.losses.targets import to_class_weights


class FBetaLoss(nn.Module):
    """One minus the F-beta of the batch, counted with probabilities in place of decisions, the mean over labels.

    For images of several labels (Bénédict et al. 2021, arXiv:2108.10566, with the plain sigmoid). The counts are of the
    whole batch, so an evaluation's loss depends on the size of its batches, and a label that no image of a batch has
    counts 1 and gets no gradient from it.

    Example::

        loss = FBetaLoss(beta=2.0)(scores, several_labels)

    Args:
        beta: How many times as much recall counts as precision.

    Raises:
        ValueError: If ``beta`` is not above 0.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        if not beta > 0:
            raise ValueError(f"FBetaLoss: beta is {beta}; it must be above 0.")
        self.beta = beta

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Map scores ``(N, K)`` and targets, labels ``(N,)`` or the weight of each label ``(N, K)``, to the loss."""
        present, found = to_class_weights(targets, scores), scores.sigmoid()
        true_positives = (present * found).sum(0)
        # (1 + b²) TP + b² FN + FP, where TP + FN is all that is present and TP + FP all that is found
        total = self.beta**2 * present.sum(0) + found.sum(0)
        f_beta = (1 + self.beta**2) * true_positives / total.clamp(min=torch.finfo(total.dtype).tiny)
        return 1 - f_beta.mean()
