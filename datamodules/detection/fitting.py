"""Images of any size, brought to the size that a detector takes, and boxes brought back."""

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

_GREY = 127


def fit_to_input(
    image: Tensor, boxes: tv_tensors.BoundingBoxes, size: int, letterbox: bool
) -> tuple[Tensor, tv_tensors.BoundingBoxes, Tensor]:
    """Resize an image and its boxes to a square.

    Args:
        image: ``(C, H, W)`` uint8.
        boxes: Left, top, right, bottom, ``(n, 4)``.
        size: Side of the square in pixels.
        letterbox: Keep the image's proportions, and fill the rest with grey on both sides; else stretch it.

    Returns:
        Image, boxes, and the frame: factors of x and y and then pixels added on the left and on top, ``(4,)``.
    """
    height, width = image.shape[-2:]
    new_height, new_width = size, size
    if letterbox:
        factor = size / max(height, width)
        new_height, new_width = max(round(height * factor), 1), max(round(width * factor), 1)
    if (new_height, new_width) != (height, width):
        image = functional.resize(image, [new_height, new_width], antialias=True)
        boxes = functional.resize(boxes, [new_height, new_width])
    left, top = (size - new_width) // 2, (size - new_height) // 2
    if (new_height, new_width) != (size, size):
        padding = [left, top, size - new_width - left, size - new_height - top]
        image = functional.pad(image, padding, fill=_GREY)
        boxes = functional.pad(boxes, padding)
    return image, boxes, torch.tensor([new_width / width, new_height / height, left, top])


def unfit_boxes(boxes: Tensor, frame: Tensor) -> Tensor:
    """Bring boxes ``(n, 4)`` from the input back to the image, by the frame ``(4,)`` of `fit_to_input`."""
    return (boxes - frame[2:].repeat(2)) / frame[:2].repeat(2)
