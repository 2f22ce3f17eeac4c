"""Tricks on retrieval alone: necks, losses of distances, features of parts, and how a gallery is ranked."""

from collections.abc import Sequence
from typing import Literal

from ablations.errors import RecipeError
from ablations.recipe import Recipe, describe
from ablations.registry import trick

RETRIEVAL = {"retrieval"}


@trick(tasks=RETRIEVAL, source="arXiv:1703.07737, section 2")
def pk_sampling(recipe: Recipe, identities: int = 16, images: int = 4) -> None:
    """Draw batches of `identities` identities with so many `images` each."""
    recipe.set("data.identities_per_batch", identities)
    recipe.set("data.images_per_identity", images)


@trick(tasks=RETRIEVAL, source="arXiv:1703.07737, section 2")
def triplet_loss(recipe: Recipe, margin: float | None = 0.3, weight: float = 1.0) -> None:
    """Ask that each image be nearer to all of its identity in the batch than to any other, by a `margin`."""
    loss = {"class_path": "lit_modules.losses.BatchHardTripletLoss", "init_args": {"margin": margin}}
    recipe.add("model.feature_losses", "lit_modules.losses.FeatureLoss", loss=loss, weight=weight)


@trick(tasks=RETRIEVAL, source="Wen et al., 2016, ECCV; arXiv:1903.07071, section 3.7")
def center_loss(recipe: Recipe, weight: float = 5e-4, lr: float = 0.5) -> None:
    """Pull features towards the centre of their identity, which learns with an SGD of its own."""
    recipe.set("model.center_weight", weight)
    if recipe.get("model.center_lr") != lr:
        recipe.set("model.center_lr", lr)


@trick(tasks=RETRIEVAL, source="arXiv:1903.07071, section 3.6")
def bnneck(recipe: Recipe) -> None:
    """Classify features behind a batch norm, and compare those by the cosine; losses of distances act before it."""
    if recipe.get("model.branches") is not None:
        raise RecipeError(
            f"bnneck: model.branches is {describe(recipe.get('model.branches'))}. Put the neck before it in the study; "
            f"multi_granularity has no place for one."
        )
    recipe.set("model.neck", "batch_norm")
    recipe.set("inference.distance", "cosine")


@trick(
    tasks=RETRIEVAL,
    source="arXiv:1903.07071, section 4.3, table 4",
    revises=("inference.distance",),
)
def neck_feature(
    recipe: Recipe,
    feature: Literal["before", "after"] = "after",
    distance: Literal["euclidean", "cosine"] = "cosine",
) -> None:
    """Compare the features before or after the neck, by another distance."""
    recipe.set("inference.feature", feature)
    recipe.set("inference.distance", distance)


@trick(tasks=RETRIEVAL, source="arXiv:1711.09349, section 3")
def part_features(recipe: Recipe, parts: int = 6, width: int = 256) -> None:
    """Learn a feature of each of `parts` horizontal stripes beside that of the whole image."""
    recipe.swap("model.branches", "lit_modules.models.PartFeatures", parts=parts, width=width)


@trick(tasks=RETRIEVAL, source="arXiv:1804.01438")
def multi_granularity(recipe: Recipe, granularities: Sequence[int] = (1, 2, 3), width: int = 256) -> None:
    """Copy the end of the network, once for each number of stripes that it looks at."""
    if (neck := recipe.get("model.neck")) is not None:
        raise RecipeError(f"multi_granularity: model.neck is {neck!r}, for which it has no place. Leave out one.")
    recipe.swap("model.branches", "lit_modules.models.MultiGranularity", granularities=list(granularities), width=width)


@trick(tasks=RETRIEVAL, source="arXiv:1701.08398")
def re_ranking(recipe: Recipe, k1: int = 20, k2: int = 6, original_weight: float = 0.3) -> None:
    """Rank by the neighbours that images have in common too; nothing is trained for it."""
    recipe.set("inference.re_ranking", {"k1": k1, "k2": k2, "original_weight": original_weight})


@trick(tasks=RETRIEVAL, source="Chum et al., 2007; arXiv:1711.02512, section 3.3")
def query_expansion(recipe: Recipe, neighbours: int = 10, alpha: float = 0.0) -> None:
    """Replace each query by the mean of itself and its nearest entries; nothing is trained for it."""
    recipe.set("inference.query_expansion", {"neighbours": neighbours, "alpha": alpha})
