"""Augmentation of whole batches on the training device, with one random draw for each image."""

from datamodules.transforms.crop import BatchRandomCrop, crop_each
from datamodules.transforms.erasing import BatchRandomErasing, draw_rectangles, erase_each
from datamodules.transforms.flip import BatchRandomHorizontalFlip, flip_each

__all__ = [
    "BatchRandomCrop",
    "BatchRandomErasing",
    "BatchRandomHorizontalFlip",
    "crop_each",
    "draw_rectangles",
    "erase_each",
    "flip_each",
]
