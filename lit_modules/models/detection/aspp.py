"""Atrous spatial pyramid pooling: one feature map seen at several ranges at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lit_modules.models.detection.darknet import ConvolutionNormActivation

ContextCallable = Callable[[int], nn.Module]
"""Makes what maps a feature map to one of as many channels, from their number."""


class ASPP(nn.Module):
    """A 1×1 and several dilated 3×3 convolutions side by side, and the mean of the whole map (Chen et al. 2017,
    arXiv:1706.05587, section 3.3).

    A 1×1 convolution makes as many channels of them as went in. The mean has a bias in place of a norm, so that one
    image is enough to train on.

    Example::

        YOLOv3(num_classes=20, context=partial(ASPP, rates=[2, 4]))

    Args:
        channels: Channels in and out.
        rates: Dilations. The default at stride 32 spans as many pixels of the image as the paper's 6, 12 and 18 at
            stride 16.
        width: Channels of each branch; None is a quarter of ``channels``, rounded up.

    Raises:
        ValueError: If there are no rates, or one of them or ``width`` is below 1.
    """

    def __init__(self, channels: int, rates: Sequence[int] = (3, 6, 9), width: int | None = None) -> None:
        super().__init__()
        width = -(-channels // 4) if width is None else width
        problems = [] if rates and min(rates) >= 1 else [f"rates is {list(rates)}; it must list numbers from 1 up."]
        problems += [f"width is {width}; it must be at least 1."] if width < 1 else []
        if problems:
            raise ValueError("ASPP: " + " ".join(problems))
        self.branches = nn.ModuleList([ConvolutionNormActivation(channels, width, 1)])
        self.branches.extend(ConvolutionNormActivation(channels, width, 3, dilation=rate) for rate in rates)
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, width, 1), nn.LeakyReLU(0.1))
        self.project = ConvolutionNormActivation(width * (len(rates) + 2), channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(N, channels, H, W)`` to others of the same shape."""
        seen = [branch(features) for branch in self.branches]
        seen.append(self.mean(features).expand_as(seen[0]))
        return self.project(torch.cat(seen, 1))
