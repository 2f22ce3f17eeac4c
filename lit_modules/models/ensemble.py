"""Several networks as one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ProbabilityEnsemble(nn.Module):
    """Averages the class probabilities of several networks.

    Example::

        ensemble = ProbabilityEnsemble([first, second])
        ensemble(images).softmax(1)  # the mean of first(images).softmax(1) and second(images).softmax(1)

    Args:
        members: Networks from images ``(N, C, H, W)`` to class scores ``(N, K)``.

    Raises:
        ValueError: If there are no members.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("ProbabilityEnsemble: there are no members to average; give at least one network.")
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to scores ``(N, K)`` whose softmax is the mean of the members' probabilities."""
        log_probabilities = torch.stack([member(images).float().log_softmax(1) for member in self.members])
        return log_probabilities.logsumexp(0) - math.log(len(self.members))
