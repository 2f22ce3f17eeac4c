"""Residual blocks, and the parts of which they are made.

Norms, activations and shortcuts are made by :class:`Parts` alone: a new variant is one field there, not one more branch
in each block. Parameter names follow torchvision's, and timm's for the pooled shortcut, so that their weights load.
"""

from dataclasses import dataclass

from torch import Tensor, nn


def make_convolution(kernel: int, in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Make a convolution that keeps the resolution (divided by the stride) and leaves the bias to the norm after it."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)


@dataclass(frozen=True)
class Parts:
    """Makes the parts that all blocks of one network share."""

    stride_in_3x3: bool
    avg_pool_shortcut: bool

    def norm(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels)

    def activation(self) -> nn.Module:
        return nn.ReLU(inplace=True)

    def shortcut(self, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
        """Make what carries the input past a block; None is the identity."""
        if stride == 1 and in_channels == out_channels:
            return None
        if not self.avg_pool_shortcut:
            return nn.Sequential(make_convolution(1, in_channels, out_channels, stride), self.norm(out_channels))
        # ceil_mode: an odd resolution must round as the strided convolution beside it does. The identity keeps the
        # names of the two other modules the same at stride 1.
        pool = nn.Identity() if stride == 1 else nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        return nn.Sequential(pool, make_convolution(1, in_channels, out_channels), self.norm(out_channels))


class ResidualBlock(nn.Module):
    """What the two kinds of block have in common: the shortcut, the sum and the activation after it."""

    expansion: int
    last_norm_name: str

    def __init__(self, in_channels: int, channels: int, stride: int, parts: Parts) -> None:
        super().__init__()
        self._make_residual(in_channels, channels, stride, parts)
        self.act = parts.activation()
        self.downsample = parts.shortcut(in_channels, channels * self.expansion, stride)

    def _make_residual(self, in_channels: int, channels: int, stride: int, parts: Parts) -> None:
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.residual(x)
        out += shortcut  # in place: at this point nothing else needs the residual, and memory traffic is what costs
        return self.act(out)


class BasicBlock(ResidualBlock):
    """Two 3×3 convolutions beside a shortcut."""

    expansion = 1
    last_norm_name = "bn2"

    def _make_residual(self, in_channels: int, channels: int, stride: int, parts: Parts) -> None:
        self.conv1 = make_convolution(3, in_channels, channels, stride)
        self.bn1 = parts.norm(channels)
        self.act1 = parts.activation()
        self.conv2 = make_convolution(3, channels, channels)
        self.bn2 = parts.norm(channels)

    def residual(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class BottleneckBlock(ResidualBlock):
    """A 1×1, a 3×3 and a 1×1 convolution beside a shortcut; the last has four times the channels."""

    expansion = 4
    last_norm_name = "bn3"

    def _make_residual(self, in_channels: int, channels: int, stride: int, parts: Parts) -> None:
        first_stride, middle_stride = (1, stride) if parts.stride_in_3x3 else (stride, 1)
        self.conv1 = make_convolution(1, in_channels, channels, first_stride)
        self.bn1 = parts.norm(channels)
        self.act1 = parts.activation()
        self.conv2 = make_convolution(3, channels, channels, middle_stride)
        self.bn2 = parts.norm(channels)
        self.act2 = parts.activation()
        self.conv3 = make_convolution(1, channels, channels * self.expansion)
        self.bn3 = parts.norm(channels * self.expansion)

    def residual(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))
