"""Networks."""

from lit_modules.models.acnet import fuse_branches
from lit_modules.models.branch import EmbeddingEnsemble
from lit_modules.models.detection import Darknet, YOLODetections, YOLOv3Loss
from lit_modules.models.ensemble import ProbabilityEnsemble
from lit_modules.models.multi_granularity import MultiGranularity
from lit_modules.models.neck import BNNeck, add_bnneck
from lit_modules.models.part_features import PartFeatures
from lit_modules.models.resnet import ResNet
from lit_modules.models.yolov3 import YOLOv3

__all__ = [
    "BNNeck",
    "Darknet",
    "EmbeddingEnsemble",
    "MultiGranularity",
    "PartFeatures",
    "ProbabilityEnsemble",
    "ResNet",
    "YOLODetections",
    "YOLOv3",
    "YOLOv3Loss",
    "add_bnneck",
    "fuse_branches",
]
