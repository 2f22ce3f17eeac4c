"""Tricks on the training images."""

from ablations.recipe import Recipe
from ablations.registry import trick


@trick(tasks={"classification", "detection", "retrieval"}, source="arXiv:1409.5185; arXiv:1512.03385, section 4.2")
def random_crop(recipe: Recipe, padding: int = 4) -> None:
    """Shift each training image by up to `padding` pixels: pad it with zeros and crop it back at random."""
    recipe.add("data.transforms", "datamodules.BatchRandomCrop", padding=padding)


@trick(tasks={"classification", "retrieval"}, source="arXiv:1708.04896")
def random_erasing(recipe: Recipe, p: float = 0.5, scale: tuple[float, float] = (0.02, 0.4)) -> None:
    """Erase a random rectangle of a training image with probability `p`."""
    recipe.add("data.transforms", "datamodules.BatchRandomErasing", p=p, scale=list(scale))


@trick(tasks={"classification"}, source="arXiv:1710.09412")
def mixup(recipe: Recipe, alpha: float = 0.2, off_epochs: int = 0) -> None:
    """Train on convex mixes of two images and of their labels, weights from Beta(`alpha`, `alpha`)."""
    classes = recipe.get("model.network.num_classes")
    recipe.add("data.mixes", "torchvision.transforms.v2.MixUp", alpha=alpha, num_classes=classes)
    recipe.set("data.mix_off_epochs", off_epochs)
