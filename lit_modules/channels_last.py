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

    Strided 1×1 convolutions of few channels give their place, and their parameters, to :class:`SubsampledConv2d`.
    """
    return _without_narrow_strides(network).to(memory_format=torch.channels_last)


def _without_narrow_strides(module: nn.Module) -> nn.Module:
    if type(module) is nn.Conv2d and _is_narrow_and_strided(module):
        return _subsampled(module)
    for name, child in module.named_children():
        replacement = _without_narrow_strides(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


def _is_narrow_and_strided(convolution: nn.Conv2d) -> bool:
    return (
        convolution.kernel_size == (1, 1)
        and convolution.stride != (1, 1)
        and convolution.padding == (0, 0)
        and convolution.groups == 1
        and convolution.in_channels < ONEDNN_BLOCK
    )


def _subsampled(convolution: nn.Conv2d) -> SubsampledConv2d:
    down, right = convolution.stride
    replacement = SubsampledConv2d(
        convolution.in_channels,
        convolution.out_channels,
        1,
        (down, right),
        bias=convolution.bias is not None,
        device="meta",  # no draw from the random generator
    )
    replacement.weight, replacement.bias = convolution.weight, convolution.bias
    return replacement.train(convolution.training)
