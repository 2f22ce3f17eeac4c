"""Online hard example mining."""

import math

from torch import Tensor, nn


class OHEM(nn.Module):
    """The mean of the largest losses of a batch, around any loss that tells samples apart (Shrivastava et al. 2016,
    arXiv:1604.03540; for classifiers Fan et al. 2017, arXiv:1705.08826).

    In evaluation it is the mean over all samples: there is nothing to mine, and no batch should count for more than
    its samples.

    Example::

        loss = OHEM(nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none"), fraction=0.5)(scores, labels)

    Args:
        loss: Maps scores and targets to losses ``(N,)``, or ``(N, K)``, of which the mean over labels counts.
        fraction: Share of the batch that counts; at least one sample does, and a broken number is rounded up.

    Raises:
        ValueError: If ``fraction`` is not above 0 and at most 1, or the loss does not say ``reduction="none"``.
    """

    def __init__(self, loss: nn.Module, fraction: float = 0.5) -> None:
        super().__init__()
        if not 0 < fraction <= 1:
            raise ValueError(f"OHEM: fraction is {fraction}; it must be above 0 and at most 1.")
        reduction = getattr(loss, "reduction", None)
        if reduction != "none":
            raise ValueError(
                f"OHEM: {type(loss).__name__} has reduction {reduction!r}, and its samples must be told apart. "
                f"Give a loss with reduction='none'."
            )
        self.loss = loss
        self.fraction = fraction

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Map scores ``(N, K)`` and targets to the loss."""
        losses = self.loss(scores, targets)
        losses = losses.flatten(1).mean(1) if losses.ndim > 1 else losses
        if not self.training:
            return losses.mean()
        return losses.topk(math.ceil(self.fraction * len(losses))).values.mean()
