"""Tricks that act after training: no training is done for them."""

from collections.abc import Sequence

from ablations.recipe import Recipe
from ablations.registry import trick
from ablations.tricks.tasks import is_detection

ALL = {"classification", "detection", "retrieval"}
STRIDE = 32
"""What the sides of images are multiples of that a detector takes."""


@trick(tasks=ALL, source="Krizhevsky et al., 2012, section 4.1")
def tta_crops(recipe: Recipe, padding: int = 1) -> None:
    """Average the predictions for the image and for four copies that are shifted by `padding` pixels."""
    recipe.swap("inference.views", "lit_modules.inference.CornerCropViews", padding=padding)


@trick(tasks=ALL, source="Krizhevsky et al., 2012, section 4.1")
def tta_flip(recipe: Recipe) -> None:
    """Average the predictions for the image and for its mirror image."""
    recipe.swap("inference.views", "lit_modules.inference.HorizontalFlipViews")


@trick(tasks=ALL, source="arXiv:1409.1556, section 4.2")
def tta_multi_scale(recipe: Recipe, scales: Sequence[float] = (0.875, 1.125)) -> None:
    """Average the predictions for the image and for copies whose sides are `scales` times as long.

    Of a detector the sides are rounded to multiples of 32 pixels.
    """
    arguments = {"scales": list(scales)} | ({"divisor": STRIDE} if is_detection(recipe) else {})
    recipe.swap("inference.views", "lit_modules.inference.MultiScaleViews", **arguments)
