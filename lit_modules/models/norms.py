"""Normalizations that torch does not have as one module."""

import math

import torch
from torch import Tensor, nn

GROUPS = 32
"""Groups of a group norm where the channels allow it (arXiv:1803.08494, section 4.1)."""


def make_group_norm(channels: int) -> nn.GroupNorm:
    """Make a group norm of 32 groups, or of as many as divide the channels into at least two a group."""
    groups = math.gcd(GROUPS, channels)
    if groups == channels and groups > 1:  # a group of one channel would be an instance norm
        groups //= 2
    return nn.GroupNorm(groups, channels)


class InstanceBatchNorm(nn.Module):
    """Instance norm on the first half of the channels, batch norm on the others (IBN-a; Pan et al., arXiv:1807.09441).

    Parameter names are those of the authors' networks.

    Args:
        channels: Channels of the input, at least 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.instance_channels = channels // 2
        self.IN = nn.InstanceNorm2d(self.instance_channels, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.instance_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape; in training, H × W must be more than 1."""
        return torch.cat([self.IN(x[:, : self.instance_channels]), self.BN(x[:, self.instance_channels :])], dim=1)
