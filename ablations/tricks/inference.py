"""Tricks that act after training: no training is done for them."""

from collections.abc import Sequence

from ablations.recipe import Recipe
from ablations.registry import trick


@trick(tasks={"classification"}, source="Krizhevsky et al., 2012, section 4.1")
def tta_crops(recipe: Recipe, padding: int = 1) -> None:
    """Average the probabilities of the image and of four copies that are shifted by `padding` pixels."""
    recipe.swap("inference.views", "lit_modules.inference.CornerCropViews", padding=padding)


@trick(tasks={"classification"}, source="Krizhevsky et al., 2012, section 4.1")
def tta_flip(recipe: Recipe) -> None:
    """Average the probabilities of the image and of its mirror image."""
    recipe.swap("inference.views", "lit_modules.inference.HorizontalFlipViews")


@trick(tasks={"classification"}, source="arXiv:1409.1556, section 4.2")
def tta_multi_scale(recipe: Recipe, scales: Sequence[float] = (0.875, 1.125)) -> None:
    """Average the probabilities of the image and of copies whose sides are `scales` times as long."""
    recipe.swap("inference.views", "lit_modules.inference.MultiScaleViews", scales=list(scales))
