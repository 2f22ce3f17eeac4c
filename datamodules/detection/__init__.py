"""LightningDataModules of images with boxes."""

from datamodules.detection.annotations import AnnotatedImages, ImagePaths
from datamodules.detection.coco import COCOFolder
from datamodules.detection.crops import write_crops
from datamodules.detection.detection_data import DetectionDataModule
from datamodules.detection.detection_images import DetectionImages
from datamodules.detection.digit_scenes import DigitScenes
from datamodules.detection.fitting import fit_to_input, unfit_boxes
from datamodules.detection.iou_crop import RandomIoUCrop
from datamodules.detection.lighting import PCALighting
from datamodules.detection.mixes import DetectionMixUp, Mosaic
from datamodules.detection.voc import VOCFolder

__all__ = [
    "AnnotatedImages",
    "COCOFolder",
    "DetectionDataModule",
    "DetectionImages",
    "DetectionMixUp",
    "DigitScenes",
    "ImagePaths",
    "Mosaic",
    "PCALighting",
    "RandomIoUCrop",
    "VOCFolder",
    "fit_to_input",
    "unfit_boxes",
    "write_crops",
]
