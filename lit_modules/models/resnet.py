"""Residual networks, with every architecture trick as a switch that is off by default.

Parameter names follow torchvision's, and timm's for the deep stem, so that their weights load.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from lit_modules.models.arguments import find_contradictions, find_wrong_choices, find_wrong_numbers
from lit_modules.models.branch import Branch
from lit_modules.models.parts import Activation, Convolution, Norm, Parts, Shortcut
from lit_modules.models.pooling import POOLINGS
from lit_modules.models.residual import BLOCKS, ResidualBlock
from lit_modules.models.shortcuts import shape_blocks
from lit_modules.models.stems import make_stem_convolution, make_stem_pool


class ResNet(nn.Module):
    """A residual network (He et al. 2015, arXiv:1512.03385) and its variants in the literature.

    With every switch off it is the network of that paper. ``stride_in_3x3`` gives ResNet-B, which is what
    torchvision calls ResNet; ``deep_stem`` besides gives ResNet-C, and ``avg_pool_shortcut`` on top ResNet-D
    (arXiv:1812.01187).

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
        stem_width: Channels of the stem; None is `width`.
        activation: ``"leaky_relu"`` has slope 0.01 below zero, ``"prelu"`` one that each channel learns, from 0.25.
        norm: ``"group"`` is group norm (arXiv:1803.08494) with 32 groups, or fewer of at least two channels; ``"ibn"``
            puts instance norm on half of the channels after the first convolution of the blocks of all stages but the
            last (IBN-a, arXiv:1807.09441); ``"none"`` has no norm, and biases in its place.
        convolution: What stands for the 3×3 (`kernel` by `kernel`) convolutions of the blocks; the stem keeps its own.
            ``"stacked_3x3"`` is 3×3 ones that together see as many pixels, for a kernel of 5 or more; ``"asymmetric"``
            is 1×k and k×1, one after the other; ``"acnet"`` is k×k, 1×k and k×1 side by side, which
            `lit_modules.models.fuse_branches` makes one convolution after training (arXiv:1908.03930); ``"separable"``
            is one for each channel by itself and a 1×1 of all. Between two convolutions stand a norm and an activation.
        kernel: Side of the blocks' square convolutions.
        shortcut: What becomes of a block's input. ``"add"`` adds it to the block's output; ``"dense"`` puts the
            output's channels behind it (arXiv:1608.06993): a stage's first block brings the input to half of the
            stage's channels, and all its blocks make equal shares of the other half; ``"none"`` drops it.
        pooling: What makes one vector of the last feature map: the average, the maximum, ``"dual"``, which is both one
            behind the other, or ``"gem"``, a mean of powers with an exponent that learns (arXiv:1711.02512).
        squeeze_excite: Weight the channels of each residual by its content (arXiv:1709.01507), out of this many times
            fewer channels.
        stochastic_depth: Probability of skipping the last block, for each image in training; that of earlier blocks
            falls linearly to the stem (arXiv:1603.09382).
        blur_pool: Blur before each halving of the resolution but that of the stem's convolution (arXiv:1904.11486).
        last_stride_1: Keep the resolution in the last stage, too.

    Attributes:
        num_features: Channels of what :meth:`forward_features` returns.
        num_classes: Number of class scores.
        num_global_features: Length of the pooled vector.
        neck: What stands between the pooled vector and the last layer: nothing, unless `add_bnneck` puts a layer there.

    Raises:
        ValueError: If an argument is out of range, or arguments exclude each other.
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
        stem_width: int | None = None,
        activation: Activation = "relu",
        norm: Norm = "batch",
        convolution: Convolution = "plain",
        kernel: int = 3,
        shortcut: Shortcut = "add",
        pooling: Literal["average", "max", "dual", "gem"] = "average",
        squeeze_excite: int | None = None,
        stochastic_depth: float = 0.0,
        blur_pool: bool = False,
        last_stride_1: bool = False,
    ) -> None:
        super().__init__()
        parts = Parts(
            activation=activation,
            norm=norm,
            convolution=convolution,
            kernel=kernel,
            shortcut=shortcut,
            stride_in_3x3=stride_in_3x3,
            avg_pool_shortcut=avg_pool_shortcut,
            squeeze_excite=squeeze_excite,
            stochastic_depth=stochastic_depth,
            blur_pool=blur_pool,
        )
        stem_width = width if stem_width is None else stem_width
        problems = [
            *find_wrong_choices(
                block=block,
                stem=stem,
                activation=activation,
                norm=norm,
                convolution=convolution,
                shortcut=shortcut,
                pooling=pooling,
            ),
            *find_wrong_numbers(
                layers, dropout, num_classes, width=width, in_channels=in_channels, stem_width=stem_width
            ),
            *parts.find_problems(),
        ] or find_contradictions(layers, block, width, stem, zero_gamma, last_stride_1, parts)
        if problems:
            raise ValueError("ResNet: " + " ".join(problems))

        self.conv1 = make_stem_convolution(stem, in_channels, stem_width, deep_stem, parts)
        self.bn1 = parts.make_norm(stem_width)
        self.act1 = parts.make_activation(stem_width)
        self.maxpool = make_stem_pool(stem, parts)

        self._stage_names = [f"layer{index}" for index in range(1, len(layers) + 1)]
        strides = [1] + [2] * (len(layers) - 1)
        if last_stride_1:
            strides[-1] = 1
        channels = stem_width
        for index, name in enumerate(self._stage_names):
            parts_of_blocks = _vary_parts(parts, layers, index)
            stage, channels = _make_stage(BLOCKS[block], channels, width * 2**index, strides[index], parts_of_blocks)
            self.add_module(name, stage)

        self.num_features = channels
        self.pool = POOLINGS[pooling]()
        self.neck: nn.Module = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.num_classes = num_classes
        self.num_global_features = channels * 2 if pooling == "dual" else channels
        self.fc = nn.Linear(self.num_global_features, num_classes)
        _initialise(self, zero_gamma)

    def forward_stages(self, images: Tensor) -> list[Tensor]:
        """Map images ``(N, in_channels, H, W)`` to the feature map of each stage ``(N, C, H', W')``, finest first."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        maps = []
        for name in self._stage_names:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return maps

    def forward_features(self, images: Tensor) -> Tensor:
        """Map images ``(N, in_channels, H, W)`` to the last stage's feature map ``(N, num_features, H', W')``."""
        return self.forward_stages(images)[-1]

    def pool_features(self, maps: Tensor) -> Branch:
        """Map feature maps of :meth:`forward_features` to the pooled vector before and after the neck, and scores."""
        before = self.pool(maps).flatten(1)
        after = self.neck(before)
        return Branch(before, after, self.fc(self.dropout(after)))

    def embed(self, images: Tensor) -> list[Branch]:
        """Map images ``(N, in_channels, H, W)`` to what `LitRetriever` trains and compares, one branch."""
        return [self.pool_features(self.forward_features(images))]

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, in_channels, H, W)`` to class scores ``(N, num_classes)``."""
        return self.pool_features(self.forward_features(images)).scores


def _vary_parts(parts: Parts, layers: Sequence[int], stage: int) -> list[Parts]:
    """Return the parts of a stage's blocks: no instance norm in the last stage, and more skipping the deeper."""
    is_last = stage == len(layers) - 1
    norm = "batch" if parts.norm == "ibn" and is_last else parts.norm
    before, total = sum(layers[:stage]), sum(layers)
    return [
        replace(parts, norm=norm, stochastic_depth=parts.stochastic_depth * (before + number) / total)
        for number in range(1, layers[stage] + 1)
    ]


def _make_stage(
    block: type[ResidualBlock], in_channels: int, channels: int, stride: int, parts_of_blocks: list[Parts]
) -> tuple[nn.Sequential, int]:
    """Stack blocks, and return their output's channels besides."""
    shapes = shape_blocks(
        parts_of_blocks[0].shortcut, len(parts_of_blocks), in_channels, channels, channels * block.expansion, stride
    )
    blocks = [block(shape, parts) for shape, parts in zip(shapes, parts_of_blocks, strict=True)]
    return nn.Sequential(*blocks), shapes[-1].out_channels


def _initialise(network: nn.Module, zero_gamma: bool) -> None:
    """Initialise as torchvision does: He et al.'s normal by fan-out for convolutions, norms as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.groups > 1:  # torch counts the fan-out of all groups together
                module.weight.data.mul_(module.groups**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if zero_gamma:
        for module in network.modules():
            if isinstance(module, ResidualBlock):
                for norm in module.last_norms():
                    nn.init.zeros_(norm.get_parameter("weight"))
