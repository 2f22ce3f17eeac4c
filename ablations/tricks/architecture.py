"""Tricks on the network."""

from ablations.recipe import Recipe
from ablations.registry import trick


@trick(tasks={"classification", "detection", "retrieval"}, source="arXiv:1812.01187, section 4.2")
def resnet_d(recipe: Recipe) -> None:
    """Change a ResNet to its variant D: stem of three 3x3, no stride on a 1x1, average-pooled shortcuts."""
    if recipe.get("model.network.block") == "bottleneck":
        recipe.set("model.network.stride_in_3x3", True)
    recipe.set("model.network.deep_stem", True)
    recipe.set("model.network.avg_pool_shortcut", True)


@trick(tasks={"classification"}, source="JMLR 15 (2014), Srivastava et al.")
def dropout(recipe: Recipe, p: float = 0.2) -> None:
    """Drop a share `p` of the features before the last layer in training."""
    recipe.set("model.network.dropout", p)
