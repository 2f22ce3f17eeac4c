"""The slots of a YOLO detector: one for each anchor in each cell of each scale, in one flat order.

A slot's outputs are x, y, log width, log height, objectness and the classes. The order is scale (finest first), row,
column, anchor.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_LARGEST_LOG_SIZE = 10.0  # a box 22,000 times its anchor: beyond it only overflow is prevented


class Grid(NamedTuple):
    """Where the slots are.

    Args:
        cells: Column and row of each slot's cell, ``(S, 2)``.
        strides: Side of the cell in pixels, ``(S, 1)``.
        anchors: Width and height in pixels, ``(S, 2)``.
        shapes: Rows and columns of each scale.
        scale_strides: Side of a cell of each scale in pixels.
        scale_anchors: Anchors of all scales in pixels, equally many in each, ``(A, 2)``.
    """

    cells: Tensor
    strides: Tensor
    anchors: Tensor
    shapes: tuple[tuple[int, int], ...]
    scale_strides: tuple[int, ...]
    scale_anchors: Tensor

    @staticmethod
    def make(shapes: Sequence[tuple[int, int]], strides: Sequence[int], anchors: Tensor) -> "Grid":
        """Lay out the slots.

        Args:
            shapes: Rows and columns of each scale.
            strides: Side of a cell of each scale in pixels.
            anchors: Widths and heights in pixels, those of the finest scale first, ``(A, 2)``.
        """
        each = anchors.split(len(anchors) // len(shapes))
        cells, sides, sizes = [], [], []
        for (rows, columns), stride, own in zip(shapes, strides, each, strict=True):
            row, column = torch.meshgrid(
                torch.arange(rows, device=anchors.device), torch.arange(columns, device=anchors.device), indexing="ij"
            )
            places = torch.stack([column, row], -1).view(-1, 1, 2).expand(-1, len(own), 2).reshape(-1, 2)
            cells.append(places.to(anchors.dtype))
            sides.append(anchors.new_full((len(places), 1), stride))
            sizes.append(own.repeat(rows * columns, 1))
        return Grid(torch.cat(cells), torch.cat(sides), torch.cat(sizes), tuple(shapes), tuple(strides), anchors)

    def decode(self, raw: Tensor) -> Tensor:
        """Map outputs ``(..., S, 4 or more)`` to boxes ``(..., S, 4)``: left, top, right, bottom in pixels."""
        centres = (raw[..., :2].sigmoid() + self.cells) * self.strides
        halves = raw[..., 2:4].clamp(max=_LARGEST_LOG_SIZE).exp() * self.anchors / 2
        return torch.cat([centres - halves, centres + halves], -1)


class YOLOOutputs(NamedTuple):
    """What a YOLO network makes of a batch.

    Args:
        raw: x, y, log width, log height, objectness and classes of each slot, before any activation, ``(N, S, 5 + K)``.
        grid: Where the slots are.
        variances: Of x, y, log width and log height, before the sigmoid, ``(N, S, 4)``; None if the network knows none.
    """

    raw: Tensor
    grid: Grid
    variances: Tensor | None = None
