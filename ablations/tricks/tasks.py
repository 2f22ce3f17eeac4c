"""Which task a recipe is for, as far as a trick must know it."""

from ablations.recipe import Recipe


def is_detection(recipe: Recipe) -> bool:
    """Return whether a recipe trains a detector."""
    return _has_argument(recipe, "detector")


def is_retrieval(recipe: Recipe) -> bool:
    """Return whether a recipe trains features by which a gallery is ranked."""
    return _has_argument(recipe, "feature_losses")


def headline(recipe: Recipe) -> str:
    """Return what a validation is judged by."""
    return "val/map" if is_detection(recipe) or is_retrieval(recipe) else "val/accuracy"


def _has_argument(recipe: Recipe, name: str) -> bool:
    return name in (recipe.get("model").get("init_args") or {})
