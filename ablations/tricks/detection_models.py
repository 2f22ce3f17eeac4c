"""Tricks on a detector's network and on its losses.

Those of YOLOv3 edit `model.detector.network` and `model.detector.loss`; `two_stage` replaces the whole detector.
"""

from collections.abc import Sequence
from typing import Any

from ablations.errors import RecipeError
from ablations.recipe import Recipe, class_name, component, describe, is_component
from ablations.registry import trick
from ablations.tricks.tasks import is_detection

DETECTION = {"detection"}
DETECTOR = "model.detector"
NETWORK = f"{DETECTOR}.network"
NECK = f"{NETWORK}.neck"
BOX_LOSS = f"{DETECTOR}.loss.boxes"
PARTS = "lit_modules.models.detection"
FASTER_RCNN = "torchvision.models.detection.fasterrcnn_resnet50_fpn"


@trick(tasks=DETECTION, source="arXiv:1612.03144, table 1e; arXiv:1512.02325")
def no_fpn(recipe: Recipe) -> None:
    """Predict from each feature map by itself: what bringing coarse maps down to finer ones is worth."""
    _swap_neck(recipe, "no_fpn", "NoFPN")


@trick(tasks=DETECTION, source="arXiv:1911.09070, section 3")
def bifpn(recipe: Recipe, layers: int = 3, width: int | None = None) -> None:
    """Join the feature maps on the way down and up again, `layers` times, with learned weights."""
    _swap_neck(recipe, "bifpn", "BiFPN", layers=layers, width=width)


@trick(tasks=DETECTION, source="doi:10.23915/distill.00003, Odena et al., 2016")
def upsample_conv(recipe: Recipe) -> None:
    """Bring coarse maps up by repeating pixels and a 3x3 convolution, not by a transposed convolution."""
    _check_neck_is_fpn(recipe, "upsample_conv")
    if recipe.get(NECK) is None:
        recipe.swap(NECK, f"{PARTS}.FPN", upsampling="convolution")
    else:
        recipe.set(f"{NECK}.upsampling", "convolution")


@trick(tasks=DETECTION, source="arXiv:1612.03144, table 1f")
def single_level_anchors(recipe: Recipe, level: int = 0) -> None:
    """Put the anchors of all sizes on one feature map, the finest or another `level`."""
    _check_neck_is_fpn(recipe, "single_level_anchors")
    recipe.set(f"{NETWORK}.anchor_level", level)


@trick(tasks=DETECTION, source="arXiv:1606.00915, section 3.1; arXiv:1804.06215")
def dilated_last_stage(recipe: Recipe) -> None:
    """Keep the resolution in the backbone's last stage, and dilate its convolutions to see as far."""
    if recipe.get(f"{NETWORK}.backbone") is None:
        recipe.swap(f"{NETWORK}.backbone", "lit_modules.models.Darknet", dilated_last_stage=True)
    else:
        recipe.set(f"{NETWORK}.backbone.dilated_last_stage", True)


@trick(tasks=DETECTION, source="arXiv:1706.05587, section 3.3")
def aspp(recipe: Recipe, rates: Sequence[int] = (3, 6, 9)) -> None:
    """See the coarsest feature map at several dilation `rates` at once."""
    recipe.swap(f"{NETWORK}.context", f"{PARTS}.ASPP", rates=list(rates))


@trick(tasks=DETECTION, source="arXiv:1902.09630 (GIoU); arXiv:1911.08287 (DIoU and CIoU)")
def iou_loss(recipe: Recipe, kind: str = "giou", weight: float = 2.0) -> None:
    """Learn boxes by their overlap with the truth, the `kind` of which is giou or another."""
    recipe.swap(BOX_LOSS, f"{PARTS}.OverlapLoss", kind=kind, weight=weight)


@trick(tasks=DETECTION, source="arXiv:1904.04620")
def gaussian_yolo(recipe: Recipe) -> None:
    """Predict the variances of boxes, too, and lower the scores of those that are uncertain."""
    recipe.set(f"{NETWORK}.box_variances", True)
    recipe.swap(BOX_LOSS, f"{PARTS}.GaussianBoxLoss")


@trick(tasks=DETECTION, source="arXiv:1506.01497; arXiv:1612.03144, section 4")
def two_stage(recipe: Recipe, network: str = FASTER_RCNN) -> None:
    """Replace the detector by one of two stages, torchvision's Faster R-CNN, from random weights.

    `network` is a function of torchvision's that makes a detector, so one of its single-stage detectors goes as well.
    """
    size, classes = recipe.get("data.input_size"), recipe.get(f"{NETWORK}.num_classes")
    made = component(
        network,
        {"weights": None, "weights_backbone": None, "num_classes": classes + 1, "min_size": size, "max_size": size},
    )
    recipe.swap(DETECTOR, "lit_modules.TorchvisionDetector", network=made)


@trick(tasks=DETECTION, source="arXiv:1311.2524; arXiv:1803.06799")
def detect_then_classify(
    recipe: Recipe, weights: str, network: dict[str, Any], size: int = 32, margin: float = 0.0, prefix: str = "network."
) -> None:
    """Cut the detections out and let a trained classifier say what they are.

    `weights` is the file of the classifier, whose `network` sees the boxes at `size` pixels with a `margin` around.
    """
    recipe.swap(
        "inference.classifier",
        "lit_modules.inference.CropClassifier",
        network=network,
        weights=weights,
        size=size,
        margin=margin,
        prefix=prefix,
    )


def resnet_path(recipe: Recipe) -> str:
    """Return the path of the recipe's ResNet: the network or, in detection, what the backbone is made of.

    Raises:
        RecipeError: the backbone of a detector is made of something else.
    """
    if not is_detection(recipe):
        return "model.network"
    backbone = recipe.get(f"{DETECTOR}.network.backbone")
    if not is_component(backbone) or class_name(backbone) != "ResNetBackbone":
        raise RecipeError(
            f"{DETECTOR}.network.backbone is {describe(backbone)}, and this is for residual networks. Put "
            f"lit_modules.models.detection.ResNetBackbone there in the base."
        )
    return f"{DETECTOR}.network.backbone.resnet"


def network_prefix(recipe: Recipe) -> str:
    """Return the name, in the recipe's module, of the network in which a trick names layers, with a dot behind it."""
    return "detector.network." if is_detection(recipe) else "network."


def _check_neck_is_fpn(recipe: Recipe, name: str) -> None:
    if (neck := recipe.get(NECK)) is not None and class_name(neck) != "FPN":
        raise RecipeError(f"{name}: it is for the FPN, but {NECK} is {class_name(neck)}. Leave out one of the two.")


def _swap_neck(recipe: Recipe, name: str, kind: str, **arguments: Any) -> None:
    if recipe.get(f"{NETWORK}.anchor_level") is not None:
        raise RecipeError(
            f"{name}: {NETWORK}.anchor_level is set, and all anchors on one map need the FPN. Leave out one of the two."
        )
    recipe.swap(NECK, f"{PARTS}.{kind}", **arguments)
