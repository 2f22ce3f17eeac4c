"""Residual networks, with every architecture trick as a switch that is off by default.

Parameter names follow torchvision's, and timm's for the deep stem, so that their weights load.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from lit_modules.models.residual import BasicBlock, BottleneckBlock, Parts, ResidualBlock, make_convolution

BLOCKS: dict[str, type[ResidualBlock]] = {"basic": BasicBlock, "bottleneck": BottleneckBlock}
STEMS = ("imagenet", "small")


class ResNet(nn.Module):
    """A residual network (He et al. 2015, arXiv:1512.03385) with the variants of the bag of tricks (arXiv:1812.01187).

    With every switch off it is the network of the first paper. ``stride_in_3x3`` gives ResNet-B, which is what
    torchvision calls ResNet; ``deep_stem`` besides gives ResNet-C, and ``avg_pool_shortcut`` on top ResNet-D.

    Example::

        resnet50 = ResNet(num_classes=1000, layers=[3, 4, 6, 3], block="bottleneck", stem="imagenet")
        resnet20 = ResNet(num_classes=10, layers=[3, 3, 3], block="basic", width=16, stem="small")

    Args:
        num_classes: Width of the output.
        layers: Residual blocks in each stage, for one to four stages. Each stage after the first halves the resolution.
        block: ``"basic"`` is two 3×3 convolutions, ``"bottleneck"`` is 1×1, 3×3, 1×1 with four times the channels out.
        width: Channels of the first stage, before a bottleneck's factor four; each further stage has twice as many.
        in_channels: Channels of the images.
        stem: ``"imagenet"`` is a 7×7 convolution of stride 2 and a max pool, which divide the resolution by four;
            ``"small"`` is a 3×3 convolution that keeps it, for images of about 32 pixels.
        stride_in_3x3: Put a bottleneck's stride on its 3×3 convolution, not on the first 1×1, which skips three
            quarters of its input (ResNet-B).
        deep_stem: Make the stem's convolution three 3×3 ones (ResNet-C).
        avg_pool_shortcut: Halve the shortcut's resolution by average pooling, not by a strided 1×1 (ResNet-D).
        zero_gamma: Start the last normalization scale of each block at zero, so that each block starts as the identity.
        dropout: Probability of dropping a feature before the last layer.

    Attributes:
        num_features: Channels of what :meth:`forward_features` returns.

    Raises:
        ValueError: If an argument is out of range, or ``stride_in_3x3`` is asked of basic blocks.
    """

    def __init__(
        self,
        num_classes: int,
        layers: list[int],
        block: Literal["basic", "bottleneck"],
        width: int = 64,
        in_channels: int = 3,
        stem: Literal["imagenet", "small"] = "imagenet",
        stride_in_3x3: bool = False,
        deep_stem: bool = False,
        avg_pool_shortcut: bool = False,
        zero_gamma: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        problems = _find_problems(num_classes, layers, block, width, in_channels, stem, stride_in_3x3, dropout)
        if problems:
            raise ValueError("ResNet: " + " ".join(problems))
        parts = Parts(stride_in_3x3=stride_in_3x3, avg_pool_shortcut=avg_pool_shortcut)

        self.conv1 = _make_stem_convolution(in_channels, width, stem, deep_stem, parts)
        self.bn1 = parts.norm(width)
        self.act1 = parts.activation()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()

        self._stage_names = [f"layer{index}" for index in range(1, len(layers) + 1)]
        channels = width
        for index, (name, depth) in enumerate(zip(self._stage_names, layers, strict=True)):
            stage = _make_stage(BLOCKS[block], depth, channels, width * 2**index, 1 if index == 0 else 2, parts)
            self.add_module(name, stage)
            channels = width * 2**index * BLOCKS[block].expansion

        self.num_features = channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        _initialise(self, zero_gamma)

    def forward_features(self, images: Tensor) -> Tensor:
        """Map images ``(N, in_channels, H, W)`` to the last stage's feature map ``(N, num_features, H', W')``."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        for name in self._stage_names:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, in_channels, H, W)`` to class scores ``(N, num_classes)``."""
        features = self.avgpool(self.forward_features(images)).flatten(1)
        return self.fc(self.dropout(features))


def _make_stem_convolution(in_channels: int, width: int, stem: str, deep: bool, parts: Parts) -> nn.Module:
    """Make all of the stem that comes before its last norm."""
    stride = 2 if stem == "imagenet" else 1
    if not deep:
        return make_convolution(7 if stem == "imagenet" else 3, in_channels, width, stride)
    half = max(width // 2, 1)
    return nn.Sequential(
        make_convolution(3, in_channels, half, stride),
        parts.norm(half),
        parts.activation(),
        make_convolution(3, half, half),
        parts.norm(half),
        parts.activation(),
        make_convolution(3, half, width),
    )


def _make_stage(
    block: type[ResidualBlock], depth: int, in_channels: int, channels: int, stride: int, parts: Parts
) -> nn.Sequential:
    """Stack `depth` blocks, the first of which changes resolution and channels."""
    first = block(in_channels, channels, stride, parts)
    others = [block(channels * block.expansion, channels, 1, parts) for _ in range(depth - 1)]
    return nn.Sequential(first, *others)


def _initialise(network: nn.Module, zero_gamma: bool) -> None:
    """Initialise as torchvision does: He et al.'s normal by fan-out for convolutions, norms as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if zero_gamma:
        for module in network.modules():
            if isinstance(module, ResidualBlock):
                nn.init.zeros_(module.get_parameter(f"{module.last_norm_name}.weight"))


def _find_problems(
    num_classes: int,
    layers: Sequence[int],
    block: str,
    width: int,
    in_channels: int,
    stem: str,
    stride_in_3x3: bool,
    dropout: float,
) -> list[str]:
    """Say what is wrong with a network's arguments, one sentence a problem."""
    problems = []
    for name, count in (("num_classes", num_classes), ("width", width), ("in_channels", in_channels)):
        if count < 1:
            problems.append(f"{name} is {count}; it must be at least 1.")
    if not 1 <= len(layers) <= 4 or min(layers) < 1:
        problems.append(f"layers is {list(layers)}; it must list one to four stages of at least one block each.")
    if block not in BLOCKS:
        problems.append(f"block is {block!r}; it must be one of {', '.join(map(repr, BLOCKS))}.")
    if stem not in STEMS:
        problems.append(f"stem is {stem!r}; it must be one of {', '.join(map(repr, STEMS))}.")
    if stride_in_3x3 and block == "basic":
        problems.append(
            "stride_in_3x3 is True with block='basic', whose stride is on a 3×3 convolution already. "
            "Use block='bottleneck', or leave stride_in_3x3 off."
        )
    if not 0 <= dropout < 1:
        problems.append(f"dropout is {dropout}; it is a probability and must be at least 0 and below 1.")
    return problems
