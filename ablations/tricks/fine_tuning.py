"""Tricks that start from weights which were trained before, and choose what of them is trained further.

All names of layers are names in the network: `fc` is `model.network`'s last layer. A detector has no single last layer:
its backbone is pretrained and frozen, and its `heads` are what is replaced.
"""

from collections.abc import Sequence

from ablations.errors import RecipeError
from ablations.recipe import Recipe, class_name, is_component
from ablations.registry import trick
from ablations.tricks.detection_models import DETECTOR, network_prefix
from ablations.tricks.tasks import is_detection

ALL = {"classification", "detection", "retrieval"}
DARKNET_STAGES = 5
PRETRAINED = "lit_modules.pretrained_weights.PretrainedWeights"


@trick(tasks=ALL, source="arXiv:1411.1792; arXiv:1805.08974")
def pretrained_backbone(
    recipe: Recipe, weights: str, skip: Sequence[str] | None = None, prefix: str = "", part: str | None = None
) -> None:
    """Start from the weights of a file, or of torchvision, in place of random ones, but for a new last layer.

    By default `skip` is `fc`, or nothing for a Darknet. In detection the file fills the backbone alone, or another
    `part` of the detector.
    """
    if part is None:
        part = _find_backbone(recipe)
    if skip is None:
        skip = () if part == "network.backbone" else ("fc",)
    recipe.swap("model.init", PRETRAINED, weights=weights, skip=list(skip), prefix=prefix, part=part)


@trick(tasks=ALL, source="arXiv:2202.10054; arXiv:1801.06146, section 3.3")
def freeze_backbone_then_unfreeze(recipe: Recipe, until_fraction: float = 0.25, head: str | None = None) -> None:
    """Train the last layer alone for the first part of the run, then everything.

    In detection it is all but the backbone that is trained from the start.
    """
    if not 0 < until_fraction < 1:
        raise RecipeError(
            f"freeze_backbone_then_unfreeze: until_fraction is {until_fraction}; it is a part of the run, between 0 "
            "and 1. To freeze the backbone for the whole run is replace_head."
        )
    parts, all_but = _split_head(recipe, head)
    if is_detection(recipe) and head is None:
        parts, all_but = [f"{network_prefix(recipe)}backbone"], list[str]()
    recipe.add(
        "trainer.callbacks", "callbacks.FreezeBackbone", parts=parts, all_but=all_but, until_fraction=until_fraction
    )


@trick(tasks=ALL, source="arXiv:1411.1792, section 4.1")
def freeze_shallow(recipe: Recipe, layers: Sequence[str] | None = None) -> None:
    """Leave the lowest layers as they start, and train the others.

    By default they are the stem and the first stage of a ResNet or, in detection, of the backbone.
    """
    if layers is None and is_detection(recipe):
        layers = [name for layer in _list_layers(recipe, "freeze_shallow")[:2] for name in layer]
    elif layers is None:
        layers = ("conv1", "bn1", "layer1")
    prefix = network_prefix(recipe)
    recipe.add("trainer.callbacks", "callbacks.FreezeBackbone", parts=[f"{prefix}{layer}" for layer in layers])


@trick(tasks=ALL, source="arXiv:1310.1531; arXiv:1403.6382", revises=("model.init.skip",))
def replace_head(recipe: Recipe, head: str | None = None) -> None:
    """Put a new last layer on the network, and train it alone.

    In detection these are the `heads`, which a file for the backbone does not have.
    """
    parts, all_but = _split_head(recipe, head)
    recipe.add("trainer.callbacks", "callbacks.FreezeBackbone", parts=parts, all_but=all_but)
    init = recipe.get("model.init")
    if not is_component(init) or init["class_path"] != PRETRAINED or init["init_args"].get("part"):
        return
    name = all_but[0].removeprefix("detector." if is_detection(recipe) else network_prefix(recipe))
    if name not in init["init_args"]["skip"]:
        recipe.set("model.init.skip", [*init["init_args"]["skip"], name])


@trick(tasks=ALL, source="arXiv:1801.06146, section 3.1")
def discriminative_lr(recipe: Recipe, divisor: float = 2.6, layers: Sequence[Sequence[str]] | None = None) -> None:
    """Divide the learning rate by `divisor` from each layer to the one below it.

    `layers` lists the names in each layer, from the lowest up; all else has the full rate. By default they are the stem
    and the stages of a ResNet or, in detection, of the backbone.
    """
    if not divisor > 1:
        raise RecipeError(f"discriminative_lr: divisor is {divisor}; lower layers have lower rates if it is above 1.")
    chosen = _list_layers(recipe, "discriminative_lr") if layers is None else layers
    prefix = network_prefix(recipe)
    recipe.set("model.parameter_groups.lr_layers", [[f"{prefix}{name}" for name in layer] for layer in chosen])
    recipe.set("model.parameter_groups.lr_divisor", divisor)


def _split_head(recipe: Recipe, head: str | None) -> tuple[list[str], list[str]]:
    """Return the names of the network, and of the last layer in it, in the recipe's module."""
    prefix = network_prefix(recipe)
    name = head or ("heads" if is_detection(recipe) else "fc")
    return [prefix.removesuffix(".")], [f"{prefix}{name}"]


def _find_backbone(recipe: Recipe) -> str:
    """Return the part of the network that a file of pretrained weights is for; empty for all of it."""
    if not is_detection(recipe):
        return ""
    backbone = recipe.get(f"{DETECTOR}.network.backbone")
    is_resnet = backbone is not None and class_name(backbone) == "ResNetBackbone"
    return "network.backbone.resnet" if is_resnet else "network.backbone"


def _list_layers(recipe: Recipe, name: str) -> list[list[str]]:
    """Return the names in the stem and in each stage of the recipe's ResNet, or of the detector's backbone."""
    path, prefix = "model.network", ""
    if is_detection(recipe):
        path = f"{DETECTOR}.network.backbone"
        backbone = recipe.get(path)
        if backbone is None or class_name(backbone) == "Darknet":
            return [["backbone.stem"], *([f"backbone.stages.{stage}"] for stage in range(DARKNET_STAGES))]
        if class_name(backbone) == "ResNetBackbone":
            path, prefix = f"{path}.resnet", "backbone.resnet."
    network = recipe.get(path)["class_path"]
    if network != "lit_modules.models.ResNet":
        raise RecipeError(
            f"{name}: {path} is a {network}, whose layers are not known. Give them as `layers`, "
            "names from the lowest up, such as [[conv1, bn1], [layer1], [layer2]]."
        )
    stages = len(recipe.get(f"{path}.layers"))
    return [[f"{prefix}conv1", f"{prefix}bn1"], *([f"{prefix}layer{stage}"] for stage in range(1, stages + 1))]
