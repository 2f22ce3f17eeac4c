"""Pooling: blurred downsampling within a network, and what makes one vector of a feature map.

The modules at the end of a network map ``(N, C, H, W)`` to ``(N, C', 1, 1)``, as torch's adaptive pooling does.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BlurPool(nn.Module):
    """Blurs each channel and keeps every `stride`-th pixel (Zhang 2019, arXiv:1904.11486, Tri-3).

    The filter is the outer product of (1, 2, 1) / 4 with itself and does not learn; borders are reflected. The output
    has the resolution of a 3×3 convolution with this stride.

    Args:
        stride: Pixels from one that is kept to the next.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        line = torch.tensor([0.25, 0.5, 0.25])
        self.filter: Tensor
        self.register_buffer("filter", torch.outer(line, line)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)``, at least 2 pixels high and wide, to ``(N, C, ⌈H / stride⌉, ⌈W / stride⌉)``."""
        channels = x.shape[1]
        kernels = self.filter.to(x.dtype).expand(channels, 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernels, stride=self.stride, groups=channels)


class DualPooling(nn.Module):
    """Average and maximum of each channel, one after the other: ``(N, C, H, W)`` to ``(N, 2C, 1, 1)``."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)], dim=1)


class GeneralizedMeanPooling(nn.Module):
    """The p-th root of the mean p-th power of each channel, with a p that learns (arXiv:1711.02512, equation 3).

    The average at p = 1, close to the maximum for large p.

    Args:
        p: Where p starts.
        epsilon: Smaller features count as this, so that the power has a gradient.
    """

    def __init__(self, p: float = 3.0, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C, 1, 1)``, computed in float32."""
        powers = x.float().clamp(min=self.epsilon).pow(self.p.float())
        return powers.mean(dim=(2, 3), keepdim=True).pow(1 / self.p.float()).to(x.dtype)


POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "average": lambda: nn.AdaptiveAvgPool2d(1),
    "max": lambda: nn.AdaptiveMaxPool2d(1),
    "dual": DualPooling,
    "gem": GeneralizedMeanPooling,
}
"""What makes one vector of the last feature map."""
