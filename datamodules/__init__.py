"""LightningDataModules, and transforms that work on whole batches."""

from datamodules.digits import Digits
from datamodules.images import InMemoryImages
from datamodules.in_memory import InMemoryDataModule
from datamodules.transforms import BatchRandomCrop, BatchRandomErasing, BatchRandomHorizontalFlip

__all__ = [
    "BatchRandomCrop",
    "BatchRandomErasing",
    "BatchRandomHorizontalFlip",
    "Digits",
    "InMemoryDataModule",
    "InMemoryImages",
]
