"""The tricks on the training images of detectors: what each must change, and what row 0 has in its place."""

from tests.ablations.tricks.case import Case

EXPAND, CROP = "RandomZoomOut", "RandomIoUCrop"
COLORS, FLIP = "RandomPhotometricDistort", "RandomHorizontalFlip"

CASES = [
    Case("random_expand", {f"data.transforms.{EXPAND}": EXPAND}, base="digit_scenes"),
    Case("random_iou_crop", {f"data.transforms.{CROP}": CROP}, base="digit_scenes"),
    Case(
        "box_augmentation",
        {f"data.transforms.{name}": name for name in (COLORS, EXPAND, CROP, FLIP)},
        base="digit_scenes",
    ),
    Case(
        "detection_mixup",
        {"data.mixes.DetectionMixUp": "DetectionMixUp", "data.mix_off_epochs": 1},
        {"off_epochs": 1},
        base="digit_scenes",
    ),
    Case("mosaic", {"data.mixes.Mosaic": "Mosaic"}, base="digit_scenes"),
]

OFF = {
    "data.transforms": [],
    "data.mixes": [],
    "data.mix_off_epochs": 0,
    "inference.merging": None,
}
