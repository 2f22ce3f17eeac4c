"""Residual blocks.

What differs between networks is made by :class:`Parts`; a block says in which order its parts stand. Parameter names
follow torchvision's, so that its weights load.
"""

from torch import Tensor, nn

from lit_modules.models.acnet import ACConvolution
from lit_modules.models.parts import Parts
from lit_modules.models.shortcuts import BlockShape


class ResidualBlock(nn.Module):
    """What the two kinds of block have in common: how the shortcut joins the residual, and the activation after it."""

    expansion: int

    def __init__(self, shape: BlockShape, parts: Parts) -> None:
        super().__init__()
        self._make_residual(shape, parts)
        self.se = parts.make_channel_attention(shape.residual_channels)
        self.drop = parts.make_drop()
        self.join = parts.join
        self.act = parts.make_activation(shape.out_channels)
        self.downsample = parts.make_shortcut(shape.in_channels, shape.shortcut_channels, shape.stride)

    def _make_residual(self, shape: BlockShape, parts: Parts) -> None:
        raise NotImplementedError

    def last_norms(self) -> list[nn.Module]:
        """Return the norms whose scales multiply the whole residual."""
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.act(self.join(shortcut, self.drop(self.se(self.residual(x)))))


class BasicBlock(ResidualBlock):
    """Two 3×3 convolutions beside a shortcut."""

    expansion = 1

    def _make_residual(self, shape: BlockShape, parts: Parts) -> None:
        self.conv1, self.bn1 = parts.make_spatial(
            shape.in_channels, shape.channels, shape.stride, parts.make_first_norm
        )
        self.act1 = parts.make_activation(shape.channels, shape.stride)
        self.conv2, self.bn2 = parts.make_spatial(shape.channels, shape.residual_channels)

    def last_norms(self) -> list[nn.Module]:
        return self.conv2.norms if isinstance(self.conv2, ACConvolution) else [self.bn2]

    def residual(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class BottleneckBlock(ResidualBlock):
    """A 1×1, a 3×3 and a 1×1 convolution beside a shortcut; the last has four times the channels."""

    expansion = 4

    def _make_residual(self, shape: BlockShape, parts: Parts) -> None:
        first_stride, middle_stride = (1, shape.stride) if parts.stride_in_3x3 else (shape.stride, 1)
        self.conv1 = parts.make_pointwise(shape.in_channels, shape.channels, first_stride)
        self.bn1 = parts.make_first_norm(shape.channels)
        self.act1 = parts.make_activation(shape.channels, first_stride)
        self.conv2, self.bn2 = parts.make_spatial(shape.channels, shape.channels, middle_stride)
        self.act2 = parts.make_activation(shape.channels, middle_stride)
        self.conv3 = parts.make_pointwise(shape.channels, shape.residual_channels)
        self.bn3 = parts.make_norm(shape.residual_channels)

    def last_norms(self) -> list[nn.Module]:
        return [self.bn3]

    def residual(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


BLOCKS: dict[str, type[ResidualBlock]] = {"basic": BasicBlock, "bottleneck": BottleneckBlock}
