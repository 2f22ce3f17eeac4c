"""How a block's input and its residual come together, and the channels that follow for each block of a stage."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BlockShape:
    """Channels and stride of one block.

    Args:
        in_channels: channels of its input.
        channels: channels between its convolutions.
        shortcut_channels: channels of what is carried past its convolutions.
        residual_channels: channels of what its convolutions make.
        out_channels: channels of both together.
        stride: how far the block divides the resolution.
    """

    in_channels: int
    channels: int
    shortcut_channels: int
    residual_channels: int
    out_channels: int
    stride: int


def add(shortcut: Tensor, residual: Tensor) -> Tensor:
    """Add the shortcut to the residual, in place: nothing else needs the residual, and memory traffic is what costs."""
    residual += shortcut
    return residual


def concatenate(shortcut: Tensor, residual: Tensor) -> Tensor:
    """Put the residual's channels after the shortcut's."""
    return torch.cat([shortcut, residual], dim=1)


def leave_out(shortcut: Tensor, residual: Tensor) -> Tensor:
    """Return the residual alone."""
    return residual


JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"add": add, "dense": concatenate, "none": leave_out}


def shape_blocks(
    shortcut: str, depth: int, in_channels: int, channels: int, out_channels: int, stride: int
) -> list[BlockShape]:
    """Return the shapes of a stage's blocks, the first of which changes resolution and channels.

    Where outputs are concatenated, the first block's shortcut is the transition to half of the stage's channels, and
    the blocks share the other half among them, so that every kind of stage ends with `out_channels`.
    """
    if shortcut != "dense":
        widths = [(out_channels, out_channels, out_channels)] * depth
    else:
        carried = out_channels // 2
        ends = [carried + (out_channels - carried) * made // depth for made in range(depth + 1)]
        widths = [(start, end - start, end) for start, end in itertools.pairwise(ends)]
    inputs = [in_channels, *(end for *_, end in widths)]
    return [
        BlockShape(into, channels, carried, made, end, stride if index == 0 else 1)
        for index, (into, (carried, made, end)) in enumerate(zip(inputs, widths, strict=False))
    ]
