"""Tricks on the training images."""

from typing import Literal

from ablations.errors import RecipeError
from ablations.recipe import Recipe
from ablations.registry import trick
from ablations.tricks.tasks import is_detection

V2 = "torchvision.transforms.v2"
EVERY_TASK = {"classification", "detection", "retrieval"}


@trick(tasks=EVERY_TASK, source="arXiv:1409.5185; arXiv:1512.03385, section 4.2")
def random_crop(recipe: Recipe, padding: int = 4) -> None:
    """Shift each training image by up to `padding` pixels: pad it with zeros and crop it back at random."""
    if is_detection(recipe):
        share = padding / recipe.get("data.input_size")
        recipe.add("data.transforms", f"{V2}.RandomAffine", degrees=0, translate=[share, share])
    else:
        recipe.add("data.transforms", "datamodules.BatchRandomCrop", padding=padding)


@trick(tasks=EVERY_TASK, source="arXiv:1409.4842, section 6; arXiv:1812.01187, section 2.1")
def random_resized_crop(
    recipe: Recipe,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    size: int | None = None,
) -> None:
    """Train on random parts of the images, `scale` of the area and `ratio` in shape, resized to `size` or as before."""
    arguments = {"scale": list(scale), "ratio": list(ratio), "size": size}
    if is_detection(recipe):
        arguments["size"] = recipe.get("data.input_size") if size is None else size
        recipe.add("data.transforms", f"{V2}.RandomResizedCrop", **arguments)
    else:
        recipe.add("data.transforms", "datamodules.BatchRandomResizedCrop", **arguments)


@trick(tasks=EVERY_TASK, source="arXiv:1906.06423")
def center_crop(recipe: Recipe, size: int) -> None:
    """Train on the central `size` x `size` pixels of each image; scoring sees whole images."""
    recipe.add("data.transforms", "torchvision.transforms.v2.CenterCrop", size=size)


@trick(tasks=EVERY_TASK, source="Krizhevsky et al., 2012, section 4.1")
def horizontal_flip(recipe: Recipe, p: float = 0.5) -> None:
    """Mirror a training image left to right with probability `p`."""
    flip = f"{V2}.RandomHorizontalFlip" if is_detection(recipe) else "datamodules.BatchRandomHorizontalFlip"
    recipe.add("data.transforms", flip, p=p)


@trick(tasks=EVERY_TASK, source="arXiv:1503.07077")
def vertical_flip(recipe: Recipe, p: float = 0.5) -> None:
    """Mirror a training image top to bottom with probability `p`."""
    flip = f"{V2}.RandomVerticalFlip" if is_detection(recipe) else "datamodules.BatchRandomVerticalFlip"
    recipe.add("data.transforms", flip, p=p)


@trick(tasks=EVERY_TASK, source="arXiv:1312.5402")
def brightness_jitter(recipe: Recipe, strength: float = 0.4, bounds: tuple[float, float] | None = None) -> None:
    """Change a training image's brightness by up to `strength`, but not out of `bounds`, by default the data's own."""
    limits = None if bounds is None else list(bounds)
    if is_detection(recipe):
        if bounds is not None:
            raise RecipeError("brightness_jitter: bounds are for classification and retrieval. Leave them out.")
        recipe.add("data.transforms", f"{V2}.ColorJitter", brightness=strength)
    else:
        recipe.add("data.transforms", "datamodules.BatchBrightnessJitter", strength=strength, bounds=limits)


@trick(tasks=EVERY_TASK, source="arXiv:1312.5402; arXiv:1812.01187, section 2.1")
def color_jitter(
    recipe: Recipe, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.0
) -> None:
    """Change brightness, contrast, saturation and hue of a training image at random, in random order."""
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    jitter = f"{V2}.ColorJitter" if is_detection(recipe) else "datamodules.BatchColorJitter"
    recipe.add("data.transforms", jitter, **strengths)


@trick(tasks=EVERY_TASK, source="Krizhevsky et al., 2012, section 4.1; arXiv:1812.01187, section 2.1")
def pca_lighting(recipe: Recipe, sd: float = 0.1, from_data: bool = False) -> None:
    """Shift a training image's colour along the principal colours, ImageNet's or `from_data`, by Normal(0, `sd`)."""
    if is_detection(recipe):
        if from_data:
            raise RecipeError("pca_lighting: from_data is for classification and retrieval. Leave it out.")
        recipe.add("data.transforms", "datamodules.PCALighting", sd=sd)
        return
    found_by_fit = {"eigenvalues": None, "eigenvectors": None} if from_data else {}
    recipe.add("data.transforms", "datamodules.BatchPCALighting", sd=sd, **found_by_fit)


@trick(tasks={"classification", "retrieval"}, source="arXiv:1708.04896")
def random_erasing(recipe: Recipe, p: float = 0.5, scale: tuple[float, float] = (0.02, 0.4)) -> None:
    """Erase a random rectangle of a training image with probability `p`."""
    recipe.add("data.transforms", "datamodules.BatchRandomErasing", p=p, scale=list(scale))


@trick(tasks={"classification", "retrieval"}, source="arXiv:1708.04552")
def cutout(recipe: Recipe, size: int = 16, value: float = 0.5) -> None:
    """Overwrite a square of `size` pixels in each training image, centred anywhere, with `value` between 0 and 1."""
    recipe.add("data.transforms", "datamodules.BatchCutout", size=size, value=value)


@trick(tasks={"classification", "retrieval"}, source="arXiv:1805.09501")
def auto_augment(recipe: Recipe, policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet") -> None:
    """Apply to each training image a random pair of operations out of the `policy` that AutoAugment learned."""
    recipe.add("data.transforms", "datamodules.BatchAutoAugment", policy=policy)


@trick(tasks={"classification", "retrieval"}, source="arXiv:1909.13719")
def rand_augment(recipe: Recipe, operations: int = 2, magnitude: int = 9) -> None:
    """Apply to each training image as many random `operations`, each of strength `magnitude` of 30."""
    recipe.add("data.transforms", "datamodules.BatchRandAugment", operations=operations, magnitude=magnitude)


@trick(tasks={"classification", "retrieval"}, source="arXiv:2103.10158")
def trivial_augment(recipe: Recipe) -> None:
    """Apply to each training image one random operation of random strength."""
    recipe.add("data.transforms", "datamodules.BatchTrivialAugment")


@trick(tasks={"classification"}, source="arXiv:1710.09412")
def mixup(recipe: Recipe, alpha: float = 0.2, off_epochs: int | None = None) -> None:
    """Train on convex mixes of two images and of their labels, weights from Beta(`alpha`, `alpha`).

    Beside `cutmix`, each batch takes one of the two. `off_epochs`, the epochs at the end without either, is one number
    for both: None leaves it as it is.
    """
    _add_mix(recipe, "torchvision.transforms.v2.MixUp", alpha, off_epochs)


@trick(tasks={"classification"}, source="arXiv:1905.04899")
def cutmix(recipe: Recipe, alpha: float = 1.0, off_epochs: int | None = None) -> None:
    """Paste a patch of another image into each training image and mix their labels by area.

    Beside `mixup`, each batch takes one of the two; `off_epochs` is as there.
    """
    _add_mix(recipe, "torchvision.transforms.v2.CutMix", alpha, off_epochs)


def _add_mix(recipe: Recipe, class_path: str, alpha: float, off_epochs: int | None) -> None:
    recipe.add("data.mixes", class_path, alpha=alpha, num_classes=recipe.get("model.network.num_classes"))
    if off_epochs is not None:
        recipe.set("data.mix_off_epochs", off_epochs)


@trick(tasks=EVERY_TASK, source="LeCun et al., 1998, Efficient BackProp, section 4.3")
def normalize_input(recipe: Recipe) -> None:
    """Subtract the mean of the training images from every image and divide by their standard deviation, by channel."""
    recipe.set("data.normalize", True)
