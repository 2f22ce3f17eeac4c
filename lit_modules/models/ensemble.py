"""Several networks as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lit_modules.outputs import Outputs, SoftmaxOutputs


class ProbabilityEnsemble(nn.Module):
    """Averages the class probabilities of several networks.

    Example::

        ensemble = ProbabilityEnsemble([first, second])
        ensemble(images).softmax(1)  # the mean of first(images).softmax(1) and second(images).softmax(1)

    Args:
        members: Networks from images ``(N, C, H, W)`` to class scores ``(N, K)``.
        outputs: How scores become probabilities. None is the softmax.

    Raises:
        ValueError: If there are no members.
    """

    def __init__(self, members: Sequence[nn.Module], outputs: Outputs | None = None) -> None:
        super().__init__()
        if not members:
            raise ValueError("ProbabilityEnsemble: there are no members to average; give at least one network.")
        self.members = nn.ModuleList(members)
        self.outputs = SoftmaxOutputs() if outputs is None else outputs

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to scores ``(N, K)`` whose probabilities are the mean of the members'."""
        return self.outputs.average(torch.stack([member(images).float() for member in self.members]))
