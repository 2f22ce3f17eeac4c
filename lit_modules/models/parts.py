"""The parts of which residual networks are made.

Norms, activations, convolutions and shortcuts are made by :class:`Parts` alone: a new variant is one entry here, not
one more branch in each block. Parameter names follow torchvision's, and timm's for the pooled shortcut, so that their
weights load.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation, StochasticDepth

from lit_modules.models.acnet import ACConvolution
from lit_modules.models.convolutions import (
    MakeLayer,
    make_asymmetric,
    make_convolution,
    make_separable,
    make_stacked,
)
from lit_modules.models.norms import InstanceBatchNorm, make_group_norm
from lit_modules.models.pooling import BlurPool
from lit_modules.models.shortcuts import JOINS

Activation = Literal["relu", "leaky_relu", "prelu"]
Norm = Literal["batch", "group", "ibn", "none"]
Convolution = Literal["plain", "stacked_3x3", "asymmetric", "acnet", "separable"]
Shortcut = Literal["add", "dense", "none"]

ACTIVATIONS: dict[str, MakeLayer] = {
    "relu": lambda channels: nn.ReLU(inplace=True),
    "leaky_relu": lambda channels: nn.LeakyReLU(inplace=True),
    "prelu": nn.PReLU,  # a slope for each channel, as in arXiv:1502.01852
}
NORMS: dict[str, MakeLayer] = {
    "batch": nn.BatchNorm2d,
    "group": make_group_norm,
    "ibn": nn.BatchNorm2d,
    "none": lambda channels: nn.Identity(),
}
COMPOSITE_CONVOLUTIONS = {"stacked_3x3": make_stacked, "asymmetric": make_asymmetric, "separable": make_separable}
CONVOLUTIONS = ("plain", "acnet", *COMPOSITE_CONVOLUTIONS)


@dataclass(frozen=True)
class Parts:
    """Makes the parts of a network's blocks.

    Args:
        activation, norm, convolution, kernel, shortcut, stride_in_3x3, avg_pool_shortcut, squeeze_excite, blur_pool:
            As `ResNet` describes them.
        stochastic_depth: Probability of skipping a block.
    """

    activation: str = "relu"
    norm: str = "batch"
    convolution: str = "plain"
    kernel: int = 3
    shortcut: str = "add"
    stride_in_3x3: bool = False
    avg_pool_shortcut: bool = False
    squeeze_excite: int | None = None
    stochastic_depth: float = 0.0
    blur_pool: bool = False

    @property
    def join(self) -> Callable[[Tensor, Tensor], Tensor]:
        """What brings shortcut and residual together."""
        return JOINS[self.shortcut]

    @property
    def has_bias(self) -> bool:
        """Whether convolutions have biases, since no norm after them brings one."""
        return self.norm == "none"

    def make_norm(self, channels: int) -> nn.Module:
        return NORMS[self.norm](channels)

    def make_first_norm(self, channels: int) -> nn.Module:
        """Make the first norm of a block, the only one that the instance norm shares."""
        return InstanceBatchNorm(channels) if self.norm == "ibn" else self.make_norm(channels)

    def make_activation(self, channels: int, stride: int = 1) -> nn.Module:
        """Make the activation after a convolution of this stride, which it takes over where downsampling is blurred."""
        activation = ACTIVATIONS[self.activation](channels)
        return nn.Sequential(activation, BlurPool(stride)) if self.blur_pool and stride > 1 else activation

    def make_square(self, kernel: int, in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
        """Make one k×k convolution, whatever stands for those of the blocks."""
        return make_convolution(kernel, in_channels, out_channels, stride, bias=self.has_bias)

    def make_pointwise(self, in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
        return self.make_square(1, in_channels, out_channels, 1 if self.blur_pool else stride)

    def make_spatial(
        self, in_channels: int, out_channels: int, stride: int = 1, make_norm: MakeLayer | None = None
    ) -> tuple[nn.Module, nn.Module]:
        """Make a block's k×k convolution, or what stands for it, and the norm after it."""
        stride = 1 if self.blur_pool else stride
        if self.convolution == "acnet":  # each branch has its norm
            return ACConvolution(self.kernel, in_channels, out_channels, stride), nn.Identity()
        norm = (make_norm or self.make_norm)(out_channels)
        if self.convolution == "plain":
            return self.make_square(self.kernel, in_channels, out_channels, stride), norm
        make = COMPOSITE_CONVOLUTIONS[self.convolution]
        layers = self.make_norm, self.make_activation
        return make(self.kernel, in_channels, out_channels, stride, self.has_bias, *layers), norm

    def make_shortcut(self, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
        """Make what carries the input past a block; None is the identity."""
        if self.shortcut == "none" or (stride == 1 and in_channels == out_channels):
            return None
        norm = self.make_norm(out_channels)
        if not (self.avg_pool_shortcut or self.blur_pool):
            return nn.Sequential(self.make_pointwise(in_channels, out_channels, stride), norm)
        pool: nn.Module = nn.Identity()  # keeps the names of the two other modules the same at stride 1
        if stride > 1 and self.avg_pool_shortcut:
            # ceil_mode: an odd resolution must round as the strided convolution beside it does
            pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        elif stride > 1:
            pool = BlurPool(stride)
        return nn.Sequential(pool, self.make_square(1, in_channels, out_channels), norm)

    def make_channel_attention(self, channels: int) -> nn.Module:
        """Make what weights the channels of a residual (Hu et al. 2017, arXiv:1709.01507)."""
        if self.squeeze_excite is None:
            return nn.Identity()
        return SqueezeExcitation(channels, max(1, channels // self.squeeze_excite))

    def make_drop(self) -> nn.Module:
        """Make what skips a block for some of the images (Huang et al. 2016, arXiv:1603.09382)."""
        return StochasticDepth(self.stochastic_depth, "row") if self.stochastic_depth > 0 else nn.Identity()

    def find_problems(self) -> list[str]:
        """Say which of the parts do not go together, one sentence a problem."""
        problems = []
        if self.kernel < 3 or self.kernel % 2 == 0:
            problems.append(f"kernel is {self.kernel}; it must be odd and at least 3.")
        elif self.convolution == "stacked_3x3" and self.kernel == 3:
            problems.append(
                "convolution is 'stacked_3x3' with kernel=3, which is one 3×3 convolution already. "
                "Use kernel=5 or more, or leave the convolution 'plain'."
            )
        if self.convolution == "acnet" and self.norm != "batch":
            problems.append(
                f"convolution is 'acnet' with norm={self.norm!r}, but its branches are fused with their batch norms. "
                f"Use norm='batch', or another convolution."
            )
        if self.avg_pool_shortcut and self.shortcut == "none":
            problems.append(
                "avg_pool_shortcut is True with shortcut='none', where there is no shortcut to pool. Leave it off."
            )
        if self.squeeze_excite is not None and self.squeeze_excite < 1:
            problems.append(f"squeeze_excite is {self.squeeze_excite}; it must be at least 1, or None.")
        if not 0 <= self.stochastic_depth < 1:
            problems.append(
                f"stochastic_depth is {self.stochastic_depth}; it is a probability and must be at least 0 and below 1."
            )
        elif self.stochastic_depth > 0 and self.shortcut != "add":
            problems.append(
                f"stochastic_depth is {self.stochastic_depth} with shortcut={self.shortcut!r}, but a block can be "
                f"skipped only where its input is added. Use shortcut='add', or set stochastic_depth to 0."
            )
        return problems
