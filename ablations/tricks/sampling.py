"""Tricks on which training images are drawn."""

from ablations.errors import RecipeError
from ablations.recipe import Recipe
from ablations.registry import trick


@trick(tasks={"classification"}, source="arXiv:1512.05830; arXiv:1910.09217")
def class_balanced_sampling(recipe: Recipe) -> None:
    """Draw training images of every class equally often, however many images a class has."""
    recipe.set("data.class_balanced", True)


@trick(tasks={"classification"}, source="common practice before long runs; no gain is claimed")
def small_subset(recipe: Recipe, fraction: float = 0.1) -> None:
    """Train on the first `fraction` of each class's training images alone."""
    if not 0 < fraction < 1:
        raise RecipeError(f"small_subset: fraction={fraction} must be above 0 and below 1, a share of the images.")
    recipe.set("data.train_fraction", fraction)
