"""Networks."""

from lit_modules.models.acnet import fuse_branches
from lit_modules.models.detection import Darknet, YOLODetections, YOLOv3Loss
from lit_modules.models.ensemble import ProbabilityEnsemble
from lit_modules.models.resnet import ResNet
from lit_modules.models.yolov3 import YOLOv3

__all__ = ["Darknet", "ProbabilityEnsemble", "ResNet", "YOLODetections", "YOLOv3", "YOLOv3Loss", "fuse_branches"]
