"""Triplet loss with the hardest positive and the hardest negative of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchHardTripletLoss(nn.Module):
    """Each feature shall be nearer to all of its identity in the batch than to any other (arXiv:1703.07737, eq. 5).

    With each feature as anchor, in turn, its distance to the furthest of its identity, less that to the nearest of
    another, plus a margin, where above 0. The mean over all anchors that have both. The distance is Euclidean, not
    squared. pytorch-metric-learning needs a miner and a loss for this, and means over triplets that are above 0.

    Example::

        loss = BatchHardTripletLoss(margin=0.3)(features, identities)

    Args:
        margin: Margin, in units of the features; None is the soft margin, ln(1 + exp(difference)).

    Raises:
        ValueError: If the margin is negative.
    """

    def __init__(self, margin: float | None = 0.3) -> None:
        super().__init__()
        if margin is not None and not margin >= 0:
            raise ValueError(
                f"BatchHardTripletLoss: margin is {margin}; it must be at least 0, or None for the soft one."
            )
        self.margin = margin

    def forward(self, features: Tensor, identities: Tensor) -> Tensor:
        """Map features ``(N, D)`` and identities ``(N,)`` to the loss, 0 if no anchor has both."""
        with torch.autocast(features.device.type, enabled=False):
            # By differences, not products, which lose small distances; the gradient at distance 0 is 0.
            distances = torch.cdist(features.float(), features.float(), compute_mode="donot_use_mm_for_euclid_dist")
        same = identities[:, None] == identities
        others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        furthest = distances.masked_fill(~others, -torch.inf).amax(1)
        nearest = distances.masked_fill(same, torch.inf).amin(1)
        complete = others.any(1) & ~same.all(1)
        difference = torch.where(complete, furthest, 0) - torch.where(complete, nearest, 0)
        losses = F.softplus(difference) if self.margin is None else F.relu(difference + self.margin)
        return (losses * complete).sum() / complete.sum().clamp(min=1)
