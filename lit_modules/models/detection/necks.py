"""Necks: what stands between a backbone's feature maps and the heads that predict boxes from them.

All lists of maps are finest first. The stride of a map is that of the next finer one or twice that; between equal ones
nothing is resized.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.models.detection.darknet import ConvolutionNormActivation

Upsampling = Literal["nearest", "transposed", "convolution"]
_UPSAMPLINGS = ("nearest", "transposed", "convolution")


class Neck(nn.Module, ABC):
    """Base of the necks: maps feature maps to as many of the same sizes.

    Args:
        channels: Of each map.
        strides: Pixels of the image for one of each map.

    Attributes:
        out_channels: Channels of what comes out, finest first.
        joins_all: Whether the finest map that comes out depends on every parameter and every map that goes in.
    """

    out_channels: tuple[int, ...]
    joins_all = False

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.factors = [coarser // finer for finer, coarser in pairwise(strides)]

    @abstractmethod
    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Map feature maps ``(N, C, H, W)`` to others of the same heights and widths."""


NeckCallable = Callable[[Sequence[int], Sequence[int]], Neck]


class FPN(Neck):
    """YOLOv3's own neck: each coarser map is brought up and put beside the finer one (arXiv:1804.02767, section 2.3;
    the idea is that of feature pyramids, arXiv:1612.03144).

    Example::

        YOLOv3(num_classes=20, neck=partial(FPN, upsampling="transposed"))

    Args:
        channels: Of each map.
        strides: Pixels of the image for one of each map.
        upsampling: How a map is brought up: ``"nearest"`` repeats pixels, as in the paper; ``"transposed"`` is a
            transposed 4×4 convolution; ``"convolution"`` repeats pixels and convolves 3×3, which leaves no checkerboard
            (Odena et al. 2016, doi:10.23915/distill.00003). The last two have a norm and an activation.

    Raises:
        ValueError: If ``upsampling`` is no such way.
    """

    joins_all = True

    def __init__(self, channels: Sequence[int], strides: Sequence[int], upsampling: Upsampling = "nearest") -> None:
        super().__init__(channels, strides)
        if upsampling not in _UPSAMPLINGS:
            raise ValueError(
                f"FPN: upsampling is {upsampling!r}; it must be one of {', '.join(map(repr, _UPSAMPLINGS))}."
            )
        self.out_channels = tuple(count // 2 for count in channels)
        self.sets, self.laterals, self.enlargers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        above = 0
        for width, factor in zip(reversed(channels), [1, *reversed(self.factors)], strict=True):  # coarsest first
            if above:
                self.laterals.append(ConvolutionNormActivation(above, above // 2, 1))
                self.enlargers.append(_make_enlarger(upsampling, above // 2, factor))
            self.sets.append(_make_set(width + above // 2, width // 2))
            above = width // 2

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        found = [self.sets[0](maps[-1])]
        rest = zip(reversed(maps[:-1]), self.laterals, self.enlargers, self.sets[1:], strict=True)
        for features, lateral, enlarge, convolve in rest:
            found.insert(0, convolve(torch.cat([enlarge(lateral(found[0])), features], 1)))
        return found


class NoFPN(Neck):
    """Each map for itself: the convolutions of `FPN`, with nothing brought up from coarser maps, as SSD predicts
    (arXiv:1512.02325; the ablation is that of arXiv:1612.03144, table 1e).

    Args:
        channels: Of each map.
        strides: Pixels of the image for one of each map.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__(channels, strides)
        self.out_channels = tuple(count // 2 for count in channels)
        self.sets = nn.ModuleList(_make_set(width, width // 2) for width in channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [convolve(features) for convolve, features in zip(self.sets, maps, strict=True)]


class BiFPN(Neck):
    """Down and up again, several times, with learned weights in each sum (Tan et al. 2020, arXiv:1911.09070).

    A layer brings coarse maps down to the finest and these up to the coarsest, and each sum is followed by a separable
    3×3 convolution. A sum of maps m is Σ w·m / (Σ w + 1e-4), all w kept from below 0 (equation 3 of the paper: fast
    normalized fusion). Pixels are repeated on the way to finer maps, and max-pooled 3×3 on the way to coarser ones.

    Example::

        YOLOv3(num_classes=20, neck=partial(BiFPN, layers=2))

    Args:
        channels: Of each map.
        strides: Pixels of the image for one of each map.
        layers: How many times.
        width: Channels of all maps that come out; None is those of the finest that goes in.

    Raises:
        ValueError: If ``layers`` or ``width`` is below 1.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], layers: int = 3, width: int | None = None
    ) -> None:
        super().__init__(channels, strides)
        width = channels[0] if width is None else width
        problems = [
            f"{name} is {count}; it must be at least 1."
            for name, count in {"layers": layers, "width": width}.items()
            if count < 1
        ]
        if problems:
            raise ValueError("BiFPN: " + " ".join(problems))
        self.out_channels = (width,) * len(channels)
        self.entries = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, width, 1, bias=False), nn.BatchNorm2d(width)) for count in channels
        )
        self.layers = nn.ModuleList(_BiFPNLayer(width, self.factors) for _ in range(layers))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [enter(features) for enter, features in zip(self.entries, maps, strict=True)]
        for layer in self.layers:
            maps = layer(maps)
        return maps


class _BiFPNLayer(nn.Module):
    def __init__(self, channels: int, factors: list[int]) -> None:
        super().__init__()
        self.factors = factors
        last = len(factors)
        self.downs = nn.ModuleList(_Fusion(2, channels) for _ in range(last))
        self.ups = nn.ModuleList(_Fusion(2 if level == last else 3, channels) for level in range(1, last + 1))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        last = len(self.factors)
        middle = [maps[-1]]
        for level in reversed(range(last)):
            middle.insert(0, self.downs[level](maps[level], _enlarge(middle[0], self.factors[level])))
        found = [middle[0]]
        for level in range(1, last + 1):
            own = [maps[level]] if level == last else [maps[level], middle[level]]
            found.append(self.ups[level - 1](*own, _shrink(found[-1], self.factors[level - 1])))
        return found


class _Fusion(nn.Module):
    """A weighted mean of maps, and a separable convolution of it."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.convolution = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(0.1, inplace=True),
        )

    def forward(self, *maps: Tensor) -> Tensor:
        weights = self.weights.relu()
        shares = weights / (weights.sum() + 1e-4)
        return self.convolution(torch.stack([share * each for share, each in zip(shares, maps, strict=True)]).sum(0))


def _make_set(in_channels: int, channels: int) -> nn.Sequential:
    """Five convolutions, 1×1 and 3×3 in turn, from ``in_channels`` to ``channels``."""
    wide = 2 * channels
    return nn.Sequential(
        ConvolutionNormActivation(in_channels, channels, 1),
        ConvolutionNormActivation(channels, wide, 3),
        ConvolutionNormActivation(wide, channels, 1),
        ConvolutionNormActivation(channels, wide, 3),
        ConvolutionNormActivation(wide, channels, 1),
    )


def _make_enlarger(upsampling: Upsampling, channels: int, factor: int) -> nn.Module:
    if factor == 1:
        return nn.Identity()
    if upsampling == "transposed":
        return nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(0.1, inplace=True),
        )
    nearest = nn.Upsample(scale_factor=2, mode="nearest")
    if upsampling == "nearest":
        return nearest
    return nn.Sequential(nearest, ConvolutionNormActivation(channels, channels, 3))


def _enlarge(features: Tensor, factor: int) -> Tensor:
    return features if factor == 1 else F.interpolate(features, scale_factor=factor, mode="nearest")


def _shrink(features: Tensor, factor: int) -> Tensor:
    return features if factor == 1 else F.max_pool2d(features, 3, stride=2, padding=1)
