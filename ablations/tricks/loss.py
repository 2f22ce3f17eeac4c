"""Tricks on the loss and the targets."""

from ablations.recipe import Recipe
from ablations.registry import trick


@trick(tasks={"classification"}, source="arXiv:1512.00567, section 7; arXiv:1812.01187, section 5.2")
def label_smoothing(recipe: Recipe, epsilon: float = 0.1) -> None:
    """Take `epsilon` of the target's weight from the label and spread it over all classes."""
    recipe.set("model.loss.label_smoothing", epsilon)
