"""Asymmetric convolution blocks (Ding et al. 2019, arXiv:1908.03930), and how they become plain convolutions."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.models.convolutions import make_convolution


class Branch(nn.Module):
    """A convolution and its batch norm.

    Args:
        kernel: Height and width of the kernel, odd.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the convolution.
    """

    def __init__(self, kernel: tuple[int, int], in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = make_convolution(kernel, in_channels, out_channels, (stride, stride))
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))

    def fold(self, size: int) -> tuple[Tensor, Tensor]:
        """Return the branch as a kernel of `size` by `size`, zero around a strip, and a bias, both in float64."""
        mean, variance = (self.bn.get_buffer(name).double() for name in ("running_mean", "running_var"))
        scale = self.bn.weight.double() / (variance + self.bn.eps).sqrt()
        kernel = self.conv.weight.double() * scale[:, None, None, None]
        rows, columns = ((size - side) // 2 for side in kernel.shape[2:])
        bias = self.bn.bias.double() - mean * scale
        return F.pad(kernel, (columns, columns, rows, rows)), bias


class ACConvolution(nn.Module):
    """A k×k, a 1×k and a k×1 convolution, each with its batch norm, added up.

    The strips strengthen the skeleton of the square kernel in training. Afterwards :meth:`fuse` gives one k×k
    convolution with a bias that computes the same, so that inference costs nothing more.

    Args:
        kernel: k, odd.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of all three.
    """

    def __init__(self, kernel: int, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.square = Branch((kernel, kernel), in_channels, out_channels, stride)
        self.horizontal = Branch((1, kernel), in_channels, out_channels, stride)
        self.vertical = Branch((kernel, 1), in_channels, out_channels, stride)

    @property
    def norms(self) -> list[nn.Module]:
        """The batch norms of the three branches."""
        return [self.square.bn, self.horizontal.bn, self.vertical.bn]

    def forward(self, x: Tensor) -> Tensor:
        return self.square(x) + self.horizontal(x) + self.vertical(x)

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """Return the one convolution, with a bias, that computes what this block does in evaluation mode."""
        square, kernel = self.square.conv, self.square.conv.weight.shape[-1]
        branches = (self.square, self.horizontal, self.vertical)
        kernels, biases = zip(*(branch.fold(kernel) for branch in branches), strict=True)
        fused = nn.Conv2d(
            square.in_channels, square.out_channels, kernel, square.stride[0], padding=kernel // 2, device="meta"
        )
        # empty_like keeps the order in memory, channels last or not
        fused.weight = nn.Parameter(torch.empty_like(square.weight).copy_(torch.stack(kernels).sum(0)))
        fused.bias = nn.Parameter(torch.stack(biases).sum(0).to(square.weight.dtype))
        return fused.train(self.training)


def fuse_branches(network: nn.Module) -> nn.Module:
    """Return a copy of a network in which every :class:`ACConvolution` is one convolution.

    The copy computes what the network does in evaluation mode, up to rounding. It is for inference: its batch norms are
    gone. A network without such blocks comes back as a plain copy.

    Example::

        fused = fuse_branches(network.eval())
        fused(images)  # = network(images)

    """
    if isinstance(network, ACConvolution):
        return network.fuse()
    fused = copy.deepcopy(network)
    for parent in list(fused.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ACConvolution):
                setattr(parent, name, child.fuse())
    return fused
