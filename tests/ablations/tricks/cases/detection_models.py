"""The tricks on detectors and their losses: what each must change, and what row 0 has in its place."""

import atexit
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from ablations.recipe import component
from lit_modules.models import ResNet
from tests.ablations.tricks.case import Case

BASE = "digit_scenes"
NETWORK, LOSS = "model.detector.network", "model.detector.loss"
SMALL = "tests.ablations.tricks.small_detectors.make_small_faster_rcnn"
CLASSIFIER = {"num_classes": 10, "layers": [1], "block": "basic", "width": 4, "stem": "small"}


def write_classifier() -> str:
    """Write the weights of a classifier of digits into a file that goes with the process."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "classifier.safetensors"
    state = ResNet(**CLASSIFIER).state_dict()  # type: ignore[arg-type]
    save_file({f"network.{name}": tensor for name, tensor in state.items()}, path)
    return str(path)


CASES = [
    Case("no_fpn", {f"{NETWORK}.neck": "NoFPN"}, base=BASE),
    Case("bifpn", {f"{NETWORK}.neck": "BiFPN"}, base=BASE),
    Case("upsample_conv", {f"{NETWORK}.neck": "FPN"}, base=BASE),
    Case("single_level_anchors", {f"{NETWORK}.anchor_level": 0}, base=BASE),
    Case("dilated_last_stage", {f"{NETWORK}.backbone.dilated_last_stage": True}, base=BASE),
    Case("aspp", {f"{NETWORK}.context": "ASPP"}, base=BASE),
    Case("iou_loss", {f"{LOSS}.boxes": "OverlapLoss"}, base=BASE),
    Case("gaussian_yolo", {f"{NETWORK}.box_variances": True, f"{LOSS}.boxes": "GaussianBoxLoss"}, base=BASE),
    Case("two_stage", {"model.detector": "TorchvisionDetector"}, {"network": SMALL}, base=BASE),
    Case(
        "detect_then_classify",
        {"inference.classifier": "CropClassifier"},
        {"weights": write_classifier(), "network": component("lit_modules.models.ResNet", CLASSIFIER), "size": 8},
        base=BASE,
    ),
]

OFF = {
    f"{NETWORK}.neck": None,
    f"{NETWORK}.anchor_level": None,
    f"{NETWORK}.backbone.dilated_last_stage": False,
    f"{NETWORK}.context": None,
    f"{NETWORK}.box_variances": False,
    f"{LOSS}.boxes": None,
    f"{LOSS}.label_smoothing": False,
    f"{LOSS}.focal_gamma": 0.0,
    f"{LOSS}.focal_alpha": None,
    f"{LOSS}.negatives_per_box": None,
    "inference.classifier": None,
}
