"""Darknet, the backbone of YOLOv3 (arXiv:1804.02767, table 1)."""

from typing import Any

from torch import Tensor, nn


class ConvolutionNormActivation(nn.Sequential):
    """A convolution that keeps the resolution or halves it, batch norm, and leaky ReLU with slope 0.1.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Side of the kernel; odd.
        stride: 1 or 2.
        dilation: Distance in pixels between neighbours in the kernel.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = kernel // 2 * dilation
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(0.1, inplace=True),
        )


class _Residual(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.squeeze = ConvolutionNormActivation(channels, channels // 2, 1)
        self.expand = ConvolutionNormActivation(channels // 2, channels, 3, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.expand(self.squeeze(x))


class Darknet(nn.Module):
    """Darknet-53 and smaller networks of its kind: five stages, each of half the resolution and twice the channels.

    Example::

        darknet53 = Darknet()
        small = Darknet(layers=[1, 1, 1, 1, 1], width=8)

    Args:
        layers: Residual blocks in each of the five stages.
        width: Channels of the first convolution; the last stage has 32 times as many.
        in_channels: Channels of the images.
        dilated_last_stage: Keep the resolution in the last stage and dilate its residual blocks by two, so that each
            sees as far as it did (arXiv:1606.00915, section 3.1; in a detector arXiv:1804.06215). The weights fit both.

    Attributes:
        scale_channels: Channels of the feature maps, finest first.
        scale_strides: Pixels of the image for one of each feature map.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        layers: list[int] = [1, 2, 8, 8, 4],  # noqa: B006
        width: int = 32,
        in_channels: int = 3,
        dilated_last_stage: bool = False,
    ) -> None:
        super().__init__()
        problems = []
        if len(layers) != 5 or min(layers) < 0:
            problems.append(f"layers is {list(layers)}; it must list five numbers of blocks, none below 0.")
        problems += [
            f"{name} is {count}; it must be at least 1."
            for name, count in {"width": width, "in_channels": in_channels}.items()
            if count < 1
        ]
        if problems:
            raise ValueError("Darknet: " + " ".join(problems))
        self.stem = ConvolutionNormActivation(in_channels, width, 3)
        dilated = [False] * 4 + [dilated_last_stage]
        self.stages = nn.ModuleList(
            _make_stage(width * 2**index, count, dilated[index]) for index, count in enumerate(layers)
        )
        self.scale_channels = tuple(width * 2**power for power in (3, 4, 5))
        self.scale_strides = (8, 16, 16 if dilated_last_stage else 32)
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images ``(N, in_channels, H, W)`` to the feature maps of the last three stages, finest first."""
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[-3:]


def _make_stage(in_channels: int, blocks: int, dilated: bool) -> nn.Sequential:
    channels = 2 * in_channels
    stride, dilation = (1, 2) if dilated else (2, 1)
    parts: list[Any] = [ConvolutionNormActivation(in_channels, channels, 3, stride)]
    return nn.Sequential(*parts, *(_Residual(channels, dilation) for _ in range(blocks)))


def initialise(network: nn.Module) -> None:
    """Draw convolutions by He et al.'s normal of the fan-out for leaky ReLU; norms stay the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
