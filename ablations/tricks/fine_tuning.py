"""Tricks that start from weights which were trained before, and choose what of them is trained further.

All names of layers are names in the network: `fc` is `model.network`'s last layer.
"""

from collections.abc import Sequence

from ablations.errors import RecipeError
from ablations.recipe import Recipe, is_component
from ablations.registry import trick

ALL = {"classification", "detection", "retrieval"}
PRETRAINED = "lit_modules.pretrained_weights.PretrainedWeights"


@trick(tasks=ALL, source="arXiv:1411.1792; arXiv:1805.08974")
def pretrained_backbone(recipe: Recipe, weights: str, skip: Sequence[str] = ("fc",), prefix: str = "") -> None:
    """Start from the weights of a file, or of torchvision, in place of random ones, but for a new last layer."""
    recipe.swap("model.init", PRETRAINED, weights=weights, skip=list(skip), prefix=prefix)


@trick(tasks=ALL, source="arXiv:2202.10054; arXiv:1801.06146, section 3.3")
def freeze_backbone_then_unfreeze(recipe: Recipe, until_fraction: float = 0.25, head: str = "fc") -> None:
    """Train the last layer alone for the first part of the run, then everything."""
    if not 0 < until_fraction < 1:
        raise RecipeError(
            f"freeze_backbone_then_unfreeze: until_fraction is {until_fraction}; it is a part of the run, between 0 "
            "and 1. To freeze the backbone for the whole run is replace_head."
        )
    recipe.add(
        "trainer.callbacks",
        "callbacks.FreezeBackbone",
        parts=["network"],
        all_but=[f"network.{head}"],
        until_fraction=until_fraction,
    )


@trick(tasks=ALL, source="arXiv:1411.1792, section 4.1")
def freeze_shallow(recipe: Recipe, layers: Sequence[str] = ("conv1", "bn1", "layer1")) -> None:
    """Leave the lowest layers as they start, and train the others."""
    recipe.add("trainer.callbacks", "callbacks.FreezeBackbone", parts=[f"network.{layer}" for layer in layers])


@trick(tasks=ALL, source="arXiv:1310.1531; arXiv:1403.6382", revises=("model.init.skip",))
def replace_head(recipe: Recipe, head: str = "fc") -> None:
    """Put a new last layer on the network, and train it alone."""
    recipe.add("trainer.callbacks", "callbacks.FreezeBackbone", parts=["network"], all_but=[f"network.{head}"])
    init = recipe.get("model.init")
    if is_component(init) and init["class_path"] == PRETRAINED and head not in init["init_args"]["skip"]:
        recipe.set("model.init.skip", [*init["init_args"]["skip"], head])


@trick(tasks=ALL, source="arXiv:1801.06146, section 3.1")
def discriminative_lr(recipe: Recipe, divisor: float = 2.6, layers: Sequence[Sequence[str]] | None = None) -> None:
    """Divide the learning rate by `divisor` from each layer to the one below it.

    `layers` lists the names in each layer, from the lowest up; all else has the full rate. By default they are the stem
    and the stages of a ResNet.
    """
    if not divisor > 1:
        raise RecipeError(f"discriminative_lr: divisor is {divisor}; lower layers have lower rates if it is above 1.")
    chosen = _list_layers(recipe) if layers is None else layers
    recipe.set("model.parameter_groups.lr_layers", [[f"network.{name}" for name in layer] for layer in chosen])
    recipe.set("model.parameter_groups.lr_divisor", divisor)


def _list_layers(recipe: Recipe) -> list[list[str]]:
    """Return the names in the stem and in each stage of the recipe's ResNet."""
    network = recipe.get("model.network")["class_path"]
    if network != "lit_modules.models.ResNet":
        raise RecipeError(
            f"discriminative_lr: model.network is a {network}, whose layers are not known. Give them as `layers`, "
            "names from the lowest up, such as [[conv1, bn1], [layer1], [layer2]]."
        )
    stages = len(recipe.get("model.network.layers"))
    return [["conv1", "bn1"], *([f"layer{stage}"] for stage in range(1, stages + 1))]
