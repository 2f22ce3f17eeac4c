"""LightningDataModules, and transforms that work on whole batches."""

from datamodules.detection import (
    COCOFolder,
    DetectionDataModule,
    DetectionMixUp,
    DigitScenes,
    Mosaic,
    PCALighting,
    RandomIoUCrop,
    VOCFolder,
)
from datamodules.digits import Digits
from datamodules.image_data import ImageDataModule
from datamodules.image_folder import InMemoryImageFolder
from datamodules.imagenet import ImageNet
from datamodules.images import InMemoryImages
from datamodules.in_memory import InMemoryDataModule
from datamodules.pk_sampler import PKSampler
from datamodules.published import CIFAR10, CIFAR100, FashionMNIST
from datamodules.retrieval import RetrievalDataModule
from datamodules.retrieval_digits import DigitsRetrieval
from datamodules.retrieval_files import RetrievalFiles
from datamodules.retrieval_folder import RetrievalFolder
from datamodules.retrieval_published import CUB200, DukeMTMC, Market1501, Omniglot, StanfordOnlineProducts
from datamodules.streamed_folder import StreamedImageFolder
from datamodules.transforms import (
    BatchAutoAugment,
    BatchBrightnessJitter,
    BatchColorJitter,
    BatchCutout,
    BatchPCALighting,
    BatchRandAugment,
    BatchRandomCrop,
    BatchRandomErasing,
    BatchRandomHorizontalFlip,
    BatchRandomResizedCrop,
    BatchRandomVerticalFlip,
    BatchTrivialAugment,
    FittedTransform,
)

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CUB200",
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
    "COCOFolder",
    "DetectionDataModule",
    "DetectionMixUp",
    "DigitScenes",
    "Digits",
    "DigitsRetrieval",
    "DukeMTMC",
    "FashionMNIST",
    "FittedTransform",
    "ImageDataModule",
    "ImageNet",
    "InMemoryDataModule",
    "InMemoryImageFolder",
    "InMemoryImages",
    "Market1501",
    "Mosaic",
    "Omniglot",
    "PCALighting",
    "PKSampler",
    "RandomIoUCrop",
    "RetrievalDataModule",
    "RetrievalFiles",
    "RetrievalFolder",
    "StanfordOnlineProducts",
    "StreamedImageFolder",
    "VOCFolder",
]
