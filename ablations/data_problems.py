"""Whether a recipe can be trained on its data, and be scored, seen before anything trains.

A DataModule that can tell has a method `find_problems`, given the number of processes, and `class_names` afterwards.
"""

import functools
import json
from collections.abc import Collection
from typing import Any

from ablations.keys import class_of, fingerprinted
from ablations.processes import processes_of
from ablations.recipe import arguments_of, is_component
from ablations.seeding import seeded
from lit_modules import LitClassifier, LitRetriever, TorchvisionDetector
from lit_modules.losses import BatchHardTripletLoss

MOST_NAMED = 20


def data_problems(recipe: dict[str, Any], seeds: Collection[int]) -> tuple[str, ...]:
    """Return how a recipe does not fit its data, each way in a sentence or two.

    Args:
        recipe: a resolved recipe, with devices and nodes that are numbers.
        seeds: those of its trainings, for data whose split follows the seed.

    Raises:
        StudyError: if the data set is not there, or not whole.
    """
    processes = processes_of(recipe["trainer"]).count
    found: dict[str, None] = {}
    for seed in seeds:
        problems, class_names = _look(json.dumps(seeded(recipe, seed)["data"]), processes)
        found |= dict.fromkeys(problems)
        for problem in (_class_problem(recipe["model"], class_names), _triplet_problem(recipe, processes)):
            if problem:
                found[problem] = None
    return tuple(found)


@functools.cache
def _look(data: str, processes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is wrong with the data of a `data` section by themselves, and their classes, as far as is known."""
    module: Any = fingerprinted(data)[0]
    try:
        problems = tuple(module.find_problems(processes)) if hasattr(module, "find_problems") else ()
    except (ValueError, OSError) as error:
        return (str(error),), ()
    return problems, tuple(getattr(module, "class_names", ()))


def _class_problem(model: dict[str, Any], class_names: tuple[str, ...]) -> str:
    """Return that a network counts other classes than there are; empty if it does not, or if that is not known."""
    owner, path = model, "model.network"
    if is_component(detector := arguments_of(model).get("detector")):
        owner, path = detector, "model.detector.network"
    network = arguments_of(owner).get("network")
    if not class_names or not is_component(network) or not _counts_classes(model, owner, network):
        return ""
    background = int(issubclass(class_of(owner["class_path"]), TorchvisionDetector))
    arguments = arguments_of(network) | (network.get("dict_kwargs") or {})  # timm's stand in the second
    given, wanted = arguments.get("num_classes"), len(class_names) + background
    if not isinstance(given, int) or given == wanted:
        return ""
    named = ", ".join(class_names[:MOST_NAMED]) + (", …" if len(class_names) > MOST_NAMED else "")
    one, many = "class", "classes"
    if issubclass(class_of(model["class_path"]), LitRetriever):
        one, many = "identity to train on", "identities to train on"
    return (
        f"{path}.num_classes is {given}, but the data has {len(class_names)} {one if len(class_names) == 1 else many}"
        f"{' and the background' if background else ''}: {named}. Set it to {wanted}, or correct the data."
    )


def _triplet_problem(recipe: dict[str, Any], processes: int) -> str:
    """Return that batches hold no triplets, where a loss of ours asks for some; empty if they do."""
    losses = [arguments_of(each).get("loss") for each in arguments_of(recipe["model"]).get("feature_losses") or []]
    if not any(is_component(loss) and class_of(loss["class_path"]) is BatchHardTripletLoss for loss in losses):
        return ""
    batches = arguments_of(recipe["data"])
    identities, images = batches.get("identities_per_batch", 2), batches.get("images_per_identity", 2)
    if identities * processes >= 2 and images >= 2:
        return ""
    return (
        f"data.identities_per_batch={identities} and images_per_identity={images} leave BatchHardTripletLoss nothing "
        f"to compare: it takes two images of an identity and one of another. Set both to at least 2, or drop the loss."
    )


def _counts_classes(model: dict[str, Any], owner: dict[str, Any], network: dict[str, Any]) -> bool:
    """Whether the network's `num_classes` is known to be the number of outputs that are trained on the classes."""
    if owner is not model:
        return True
    ours = issubclass(class_of(model["class_path"]), (LitClassifier, LitRetriever))
    return ours and network["class_path"].startswith(("lit_modules.", "torchvision.", "timm."))
