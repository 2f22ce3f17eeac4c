"""Tricks that combine networks which were trained apart: no network is trained for them."""

from ablations.errors import RecipeError
from ablations.recipe import Recipe
from ablations.references import ROW
from ablations.registry import trick

CLASSIFICATION = {"classification"}


@trick(tasks=CLASSIFICATION, source="Hansen and Salamon, 1990; arXiv:1612.01474, section 2.4")
def seed_ensemble(recipe: Recipe, members: int = 5) -> None:
    """Average the probabilities of `members` networks that differ in their seed alone, a score for each group."""
    if members < 2:
        raise RecipeError(f"seed_ensemble: members is {members}; an ensemble needs at least 2.")
    recipe.swap("inference.ensemble", "lit_modules.inference.SoftVoting", members=[], seeds=members)


@trick(tasks=CLASSIFICATION, source="Hansen and Salamon, 1990")
def voting(recipe: Recipe, members: list[str], seeds: int = 1) -> None:
    """Let this network and those of the rows `members` vote, each for one class."""
    recipe.swap("inference.ensemble", "lit_modules.inference.HardVoting", members=_rows(members), seeds=seeds)


@trick(tasks=CLASSIFICATION, source="Hansen and Salamon, 1990; Kittler et al., 1998")
def soft_voting(recipe: Recipe, members: list[str], seeds: int = 1) -> None:
    """Average the probabilities of this network and of those of the rows `members`."""
    recipe.swap("inference.ensemble", "lit_modules.inference.SoftVoting", members=_rows(members), seeds=seeds)


@trick(tasks=CLASSIFICATION, source="Wolpert, 1992, Stacked Generalization")
def stacking(recipe: Recipe, members: list[str], seeds: int = 1, c: float = 1.0) -> None:
    """Learn on the validation images how to combine this network and those of the rows `members`."""
    recipe.swap("inference.ensemble", "lit_modules.inference.Stacking", members=_rows(members), seeds=seeds, c=c)


@trick(tasks=CLASSIFICATION | {"retrieval"}, source="Snoek et al., 2005, Early versus Late Fusion")
def feature_fusion(
    recipe: Recipe, members: list[str], weights: list[float] | None = None, seeds: int = 1, c: float = 1.0
) -> None:
    """Put the features of this network and of those of the rows `members` side by side, and learn a classifier.

    In retrieval nothing is learned: the features side by side rank the gallery.
    """
    recipe.swap(
        "inference.ensemble",
        "lit_modules.inference.FeatureFusion",
        members=_rows(members),
        weights=weights,
        seeds=seeds,
        c=c,
    )


def _rows(members: list[str]) -> list[str]:
    return [member if ":" in member else f"{ROW}{member}" for member in members]
