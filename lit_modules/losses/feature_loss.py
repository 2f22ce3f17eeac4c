"""A loss of the distances between features, as one term of several."""

from typing import Any

from torch import Tensor, nn


class FeatureLoss(nn.Module):
    """A weighted loss of features and labels, of all samples or of those that a miner picks.

    Losses and miners of pytorch-metric-learning fit as they are.

    Example::

        FeatureLoss(BatchHardTripletLoss(margin=0.3))
        FeatureLoss(losses.MultiSimilarityLoss(), weight=0.5, miner=miners.MultiSimilarityMiner())

    Args:
        loss: Maps features ``(N, D)`` and labels ``(N,)`` to a scalar; with a miner, its picks are the third argument.
        weight: What the loss is multiplied by.
        miner: Maps features and labels to indices of pairs or triplets.

    Raises:
        ValueError: If the weight is not above 0.
    """

    def __init__(self, loss: nn.Module, weight: float = 1.0, miner: nn.Module | None = None) -> None:
        super().__init__()
        if not weight > 0:
            raise ValueError(f"FeatureLoss: weight is {weight}; it must be above 0. Leave the loss out for none.")
        self.loss = loss
        self.weight = weight
        self.miner = miner

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Map features ``(N, D)`` and labels ``(N,)`` to the weighted loss."""
        picks: tuple[Any, ...] = () if self.miner is None else (self.miner(features, labels),)
        return self.weight * self.loss(features, labels, *picks)
