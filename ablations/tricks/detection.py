"""Tricks on the training images of detectors, whose boxes move with the pixels."""

from ablations.recipe import Recipe
from ablations.registry import trick

V2 = "torchvision.transforms.v2"
GREY = 127


@trick(tasks={"detection"}, source="arXiv:1512.02325, section 2.2; arXiv:1902.04103, section 3.2")
def random_expand(recipe: Recipe, p: float = 0.5, largest: float = 4.0) -> None:
    """Put a training image anywhere on a grey canvas of up to `largest` times its sides, with probability `p`."""
    recipe.add("data.transforms", f"{V2}.RandomZoomOut", fill=GREY, side_range=[1.0, largest], p=p)


@trick(tasks={"detection"}, source="arXiv:1512.02325, section 2.2; arXiv:1902.04103, section 3.2")
def random_iou_crop(recipe: Recipe, smallest: float = 0.3) -> None:
    """Train on random parts of the images, from `smallest` of each side up, that overlap a box by a drawn IoU."""
    recipe.add("data.transforms", "datamodules.RandomIoUCrop", min_scale=smallest)


@trick(tasks={"detection"}, source="arXiv:1512.02325, section 2.2; arXiv:1902.04103, section 3.2")
def box_augmentation(recipe: Recipe, largest: float = 4.0, smallest: float = 0.3, flip: float = 0.5) -> None:
    """Distort colours, expand the canvas, crop around boxes and mirror: the augmentation that detectors start from."""
    recipe.add("data.transforms", f"{V2}.RandomPhotometricDistort")
    random_expand(recipe, largest=largest)
    random_iou_crop(recipe, smallest)
    recipe.add("data.transforms", f"{V2}.RandomHorizontalFlip", p=flip)


@trick(tasks={"detection"}, source="arXiv:1902.04103, section 3.1")
def detection_mixup(recipe: Recipe, alpha: float = 1.5, off_epochs: int | None = None) -> None:
    """Blend two training images pixel on pixel, shares from Beta(`alpha`, `alpha`); boxes weigh as their image does.

    Beside `mosaic`, each batch takes one of the two. `off_epochs`, the epochs at the end without either, is one number
    for both: None leaves it as it is.
    """
    recipe.add("data.mixes", "datamodules.DetectionMixUp", alpha=alpha)
    _end_mixes(recipe, off_epochs)


@trick(tasks={"detection"}, source="arXiv:2004.10934, section 3.3")
def mosaic(recipe: Recipe, smallest_scale: float = 0.5, off_epochs: int | None = None) -> None:
    """Make each training image of four, at scales from `smallest_scale` up, that meet at a random point.

    `off_epochs` is as in `detection_mixup`.
    """
    recipe.add("data.mixes", "datamodules.Mosaic", smallest_scale=smallest_scale)
    _end_mixes(recipe, off_epochs)


def _end_mixes(recipe: Recipe, off_epochs: int | None) -> None:
    if off_epochs is not None:
        recipe.set("data.mix_off_epochs", off_epochs)
