"""The tricks on the training images: what each must change, and what row 0 has in its place."""

from typing import Any

from tests.ablations.tricks.case import Case

COLORED = {
    "data": {
        "class_path": "tests.datamodules.transforms.colored_digits.ColoredDigits",
        "init_args": {"labels_per_class": 10, "batch_size": 25},
    },
    "model.network.in_channels": 3,
}


def added(name: str, class_name: str, *, colored: bool = False, **arguments: Any) -> Case:
    """Return the case of a trick that adds a transform."""
    return Case(name, {f"data.transforms.{class_name}": class_name}, arguments, COLORED if colored else {})


def moving_boxes(name: str, class_name: str, **arguments: Any) -> Case:
    """Return the case of a trick that adds a transform of torchvision's, which moves boxes too."""
    return Case(name, {f"data.transforms.{class_name}": class_name}, arguments, base="digit_scenes")


CASES = [
    added("random_crop", "BatchRandomCrop", padding=1),
    added("random_resized_crop", "BatchRandomResizedCrop"),
    added("center_crop", "CenterCrop", size=6),
    added("horizontal_flip", "BatchRandomHorizontalFlip"),
    added("vertical_flip", "BatchRandomVerticalFlip"),
    added("brightness_jitter", "BatchBrightnessJitter"),
    added("color_jitter", "BatchColorJitter", colored=True, hue=0.1),
    added("pca_lighting", "BatchPCALighting", colored=True),
    added("random_erasing", "BatchRandomErasing"),
    added("cutout", "BatchCutout", size=4),
    added("auto_augment", "BatchAutoAugment", policy="svhn"),
    added("rand_augment", "BatchRandAugment"),
    added("trivial_augment", "BatchTrivialAugment"),
    Case("mixup", {"data.mixes.MixUp": "MixUp"}),
    Case("cutmix", {"data.mixes.CutMix": "CutMix"}),
    Case("normalize_input", {"data.normalize": True}),
    Case("normalize_input", {"data.normalize": True}, base="digit_scenes"),
    moving_boxes("horizontal_flip", "RandomHorizontalFlip"),
    moving_boxes("vertical_flip", "RandomVerticalFlip"),
    moving_boxes("random_crop", "RandomAffine"),
    moving_boxes("random_resized_crop", "RandomResizedCrop"),
    moving_boxes("center_crop", "CenterCrop", size=48),
    moving_boxes("brightness_jitter", "ColorJitter"),
    moving_boxes("color_jitter", "ColorJitter"),
    moving_boxes("pca_lighting", "PCALighting"),
]

OFF = {
    "data.transforms": [],
    "data.mixes": [],
    "data.normalize": False,
}
