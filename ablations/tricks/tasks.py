"""Which task a recipe is for, as far as a trick must know it."""

from ablations.errors import RecipeError
from ablations.metric_kinds import metric_kind
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


def direction(trick: str, monitor: str, mode: str | None) -> str:
    """Return the direction in which a metric gets better, ``max`` or ``min``: what is said or, by default, its name's.

    Raises:
        RecipeError: its name does not say.
    """
    kind = metric_kind(monitor)
    if mode is None and not kind.is_known:
        raise RecipeError(
            f"{trick}: whether {monitor!r} is better when it is higher or lower, its name does not say. Set mode to "
            f"'max' or 'min'."
        )
    return kind.mode if mode is None else mode


def _has_argument(recipe: Recipe, name: str) -> bool:
    return name in (recipe.get("model").get("init_args") or {})
