"""Which slot answers for which box, and which slots are neither right nor wrong (arXiv:1804.02767, section 2.1).

All is tensor work over images and boxes at once: no step waits for the device.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_modules.models.detection.anchors import shape_iou
from lit_modules.models.detection.grid import Grid


class Assignment(NamedTuple):
    """The slot of each box.

    Args:
        slots: Index of the slot, ``(N, M)``; any for what is not `positive`.
        positive: Whether the box has the slot, ``(N, M)``. Of several boxes for one slot the last has it.
    """

    slots: Tensor
    positive: Tensor


def assign_boxes(boxes: Tensor, real: Tensor, grid: Grid) -> Assignment:
    """Give each box the anchor of the most similar shape, of all scales, in the cell that holds the box's centre.

    Args:
        boxes: Left, top, right, bottom in pixels, ``(N, M, 4)``.
        real: Which of them are boxes, and no padding, ``(N, M)``.
        grid: Where the slots are.
    """
    sizes = boxes[..., 2:] - boxes[..., :2]
    anchors = shape_iou(sizes, grid.scale_anchors).argmax(-1)
    each = len(grid.scale_anchors) // len(grid.shapes)
    scales = anchors // each

    starts, rows, columns, strides = _describe_scales(grid, boxes.device)[:, scales]
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    row = (centres[..., 1] / strides).long().clamp(min=0).minimum(rows - 1)
    column = (centres[..., 0] / strides).long().clamp(min=0).minimum(columns - 1)
    slots = starts + (row * columns + column) * each + anchors % each
    return Assignment(slots, real & _is_last(slots, real, len(grid.cells)))


def find_ignored(
    predicted: Tensor, boxes: Tensor, real: Tensor, threshold: float, crowd: Tensor | None = None
) -> Tensor:
    """Find the slots whose predicted box overlaps any true box with an IoU above ``threshold``.

    With a crowd a prediction may lie on any member of it, so there the overlap is the share of the prediction's area.

    Args:
        predicted: ``(N, S, 4)``, left, top, right, bottom.
        boxes: ``(N, M, 4)``, likewise.
        real: Which of them are boxes, and no padding, ``(N, M)``.
        threshold: From 0 to 1.
        crowd: Which of them are crowds, ``(N, M)``.

    Returns:
        ``(N, S)``, true where ignored.
    """
    predicted, boxes = predicted[:, :, None], boxes[:, None]
    width = (torch.minimum(predicted[..., 2], boxes[..., 2]) - torch.maximum(predicted[..., 0], boxes[..., 0])).relu_()
    height = (torch.minimum(predicted[..., 3], boxes[..., 3]) - torch.maximum(predicted[..., 1], boxes[..., 1])).relu_()
    overlap = width.mul_(height)
    true_areas = _areas(boxes)
    # overlap / (predicted + true - overlap) > threshold, with no division; a crowd's union is the prediction alone
    share: Tensor | float = 1 + threshold
    if crowd is not None:
        true_areas = true_areas.masked_fill(crowd[:, None], 0)
        share = torch.where(crowd[:, None], 1.0, share)
    return ((overlap.mul_(share) > threshold * (_areas(predicted) + true_areas)) & real[:, None]).any(-1)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _describe_scales(grid: Grid, device: torch.device) -> Tensor:
    """First slot, rows, columns and stride of each scale, ``(4, scales)``."""
    each = len(grid.scale_anchors) // len(grid.shapes)
    starts, start = [], 0
    for rows, columns in grid.shapes:
        starts.append(start)
        start += rows * columns * each
    table = [starts, [rows for rows, _ in grid.shapes], [columns for _, columns in grid.shapes], [*grid.scale_strides]]
    return torch.tensor(table).to(device, non_blocking=True)


def _is_last(slots: Tensor, real: Tensor, count: int) -> Tensor:
    """Whether no later real box of the image has the same slot, ``(N, M)``."""
    order = torch.arange(slots.shape[1], device=slots.device).expand_as(slots)
    order = order.masked_fill(~real, -1)
    last = torch.full((len(slots), count), -1, device=slots.device)
    last.scatter_reduce_(1, slots, order, "amax")
    return last.gather(1, slots) == order
