"""A detector of two stages that is small enough for tests, made as torchvision makes its own."""

from typing import Any

from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign


def make_small_faster_rcnn(
    *,
    weights: str | None = None,
    weights_backbone: str | None = None,
    num_classes: int = 91,
    min_size: int = 800,
    max_size: int = 1333,
) -> FasterRCNN:
    """Make a Faster R-CNN of one feature map with 8 channels."""
    assert weights is None and weights_backbone is None
    backbone: Any = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8), nn.ReLU())
    backbone.out_channels = 8
    return FasterRCNN(
        backbone,
        None,  # the predictor has them
        min_size=min_size,
        max_size=max_size,
        rpn_anchor_generator=AnchorGenerator(((16, 32),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 1),
        box_head=nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.ReLU()),
        box_predictor=_Predictor(num_classes),
        box_score_thresh=0.0,
        box_detections_per_img=20,
    )


class _Predictor(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scores, self.boxes = nn.Linear(8, num_classes), nn.Linear(8, 4 * num_classes)

    def forward(self, features: Any) -> Any:
        return self.scores(features), self.boxes(features)
