"""What can stand for the k×k convolutions of a network's blocks.

Each maker returns a module from ``in_channels`` to ``out_channels`` that divides the resolution by the stride. The norm
after it is the block's; norms and activations between its convolutions are its own.
"""

from collections.abc import Callable

from torch import nn

MakeLayer = Callable[[int], nn.Module]
"""Makes the norm, or the activation, for a number of channels."""


def make_convolution(
    kernel: int | tuple[int, int],
    in_channels: int,
    out_channels: int,
    stride: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """Make a convolution that keeps the resolution, divided by the stride; the norm after it brings the bias."""
    padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)


def make_stacked(
    kernel: int, in_channels: int, out_channels: int, stride: int, bias: bool, norm: MakeLayer, act: MakeLayer
) -> nn.Sequential:
    """Make 3×3 convolutions that together see k×k pixels (Simonyan and Zisserman 2014, arXiv:1409.1556, section 2.3).

    The first has the stride, so at a stride above 1 they see more than k×k.
    """
    layers: list[nn.Module] = [make_convolution(3, in_channels, out_channels, stride, bias=bias)]
    for _ in range((kernel - 3) // 2):
        layers += [norm(out_channels), act(out_channels), make_convolution(3, out_channels, out_channels, bias=bias)]
    return nn.Sequential(*layers)


def make_asymmetric(
    kernel: int, in_channels: int, out_channels: int, stride: int, bias: bool, norm: MakeLayer, act: MakeLayer
) -> nn.Sequential:
    """Make a 1×k and a k×1 convolution (Szegedy et al. 2015, arXiv:1512.00567, section 3.2)."""
    return nn.Sequential(
        make_convolution((1, kernel), in_channels, out_channels, (1, stride), bias=bias),
        norm(out_channels),
        act(out_channels),
        make_convolution((kernel, 1), out_channels, out_channels, (stride, 1), bias=bias),
    )


def make_separable(
    kernel: int, in_channels: int, out_channels: int, stride: int, bias: bool, norm: MakeLayer, act: MakeLayer
) -> nn.Sequential:
    """Make a k×k convolution of each channel by itself and a 1×1 of all (Howard et al. 2017, arXiv:1704.04861)."""
    return nn.Sequential(
        make_convolution(kernel, in_channels, in_channels, stride, groups=in_channels, bias=bias),
        norm(in_channels),
        act(in_channels),
        make_convolution(1, in_channels, out_channels, bias=bias),
    )
