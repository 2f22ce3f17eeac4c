"""LightningDataModules of images with boxes."""

from datamodules.detection.annotations import AnnotatedImages, ImagePaths
from datamodules.detection.coco import COCOFolder
from datamodules.detection.detection_data import DetectionDataModule
from datamodules.detection.detection_images import DetectionImages
from datamodules.detection.digit_scenes import DigitScenes
from datamodules.detection.fitting import fit_to_input, unfit_boxes
from datamodules.detection.voc import VOCFolder

__all__ = [
    "AnnotatedImages",
    "COCOFolder",
    "DetectionDataModule",
    "DetectionImages",
    "DigitScenes",
    "ImagePaths",
    "VOCFolder",
    "fit_to_input",
    "unfit_boxes",
]
