"""Parts of detectors."""

from lit_modules.models.detection.anchors import PAPER_ANCHORS, fit_anchors, scale_anchors, shape_iou
from lit_modules.models.detection.aspp import ASPP
from lit_modules.models.detection.assignment import Assignment, assign_boxes, find_ignored
from lit_modules.models.detection.box_losses import Aims, BoxLoss, CenterAndSize, GaussianBoxLoss, OverlapLoss
from lit_modules.models.detection.darknet import Darknet
from lit_modules.models.detection.grid import Grid, YOLOOutputs
from lit_modules.models.detection.necks import FPN, BiFPN, Neck, NoFPN
from lit_modules.models.detection.postprocessing import Detections, YOLODetections
from lit_modules.models.detection.resnet_backbone import ResNetBackbone
from lit_modules.models.detection.yolo_loss import YOLOv3Loss

__all__ = [
    "ASPP",
    "FPN",
    "PAPER_ANCHORS",
    "Aims",
    "Assignment",
    "BiFPN",
    "BoxLoss",
    "CenterAndSize",
    "Darknet",
    "Detections",
    "GaussianBoxLoss",
    "Grid",
    "Neck",
    "NoFPN",
    "OverlapLoss",
    "ResNetBackbone",
    "YOLODetections",
    "YOLOOutputs",
    "YOLOv3Loss",
    "assign_boxes",
    "find_ignored",
    "fit_anchors",
    "scale_anchors",
    "shape_iou",
]
