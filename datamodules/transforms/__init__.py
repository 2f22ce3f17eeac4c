"""Augmentation of whole batches on the training device, with one random draw for each image."""

from datamodules.transforms.auto_augment import BatchAutoAugment, BatchRandAugment, BatchTrivialAugment
from datamodules.transforms.brightness import BatchBrightnessJitter, brightness_bounds
from datamodules.transforms.color import BatchColorJitter
from datamodules.transforms.crop import BatchRandomCrop, crop_each
from datamodules.transforms.cutout import BatchCutout
from datamodules.transforms.erasing import BatchRandomErasing, draw_rectangles, erase_each
from datamodules.transforms.fitted import FittedTransform
from datamodules.transforms.flip import BatchRandomHorizontalFlip, BatchRandomVerticalFlip, flip_each
from datamodules.transforms.lighting import BatchPCALighting, principal_colors
from datamodules.transforms.resized_crop import BatchRandomResizedCrop, draw_crops, resized_crop_each

__all__ = [
    "BatchAutoAugment",
    "BatchBrightnessJitter",
    "BatchColorJitter",
    "BatchCutout",
    "BatchPCALighting",
    "BatchRandAugment",
    "BatchRandomCrop",
    "BatchRandomErasing",
    "BatchRandomHorizontalFlip",
    "BatchRandomResizedCrop",
    "BatchRandomVerticalFlip",
    "BatchTrivialAugment",
    "FittedTransform",
    "brightness_bounds",
    "crop_each",
    "draw_crops",
    "draw_rectangles",
    "erase_each",
    "flip_each",
    "principal_colors",
    "resized_crop_each",
]
