"""Channels-last order for any network, without the one convolution that oneDNN gets wrong in it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ONEDNN_BLOCK = 16
"""Input channels that oneDNN's AVX-512 kernels take at once; those of AVX2 take 8."""


class SubsampledConv2d(nn.Conv2d):
    """A 1×1 convolution with a stride, as the same convolution without one of every n-th pixel.

    On the processor, in channels-last order and with fewer than 16 input channels, oneDNN's backward pass of the
    strided form writes past its workspace: the process dies, now or later, or the gradients are wrong
    (uxlfoundation/oneDNN issue 6035; seen with torch 2.15).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉)``."""
        down, right = self.stride
        return F.conv2d(x[..., ::down, ::right], self.weight, self.bias)


def to_channels_last(network: nn.Module) -> nn.Module:
    """Put a network's convolutions into channels-last order, faster on all common devices; values stay as they are.

    Strided 1×1 convolutions of few channels become :class:`SubsampledConv2d`: the same objects, with another forward
    pass, so that their names, parameters and hooks stay.

    Returns:
        The network itself.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_narrow_and_strided(module):
            module.__class__ = SubsampledConv2d
    return network.to(memory_format=torch.channels_last)


def _is_narrow_and_strided(convolution: nn.Conv2d) -> bool:
    return (
        convolution.kernel_size == (1, 1)
        and convolution.stride != (1, 1)
        and convolution.padding == (0, 0)
        and convolution.groups == 1
        and convolution.in_channels < ONEDNN_BLOCK
    )
