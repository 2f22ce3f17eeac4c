"""Whether the data of recipes can be trained on and scored, seen before anything trains.

A DataModule that can tell has a method `find_problems`, given the number of processes; others are not asked.
"""

import json
from collections.abc import Collection, Iterable
from typing import Any

from ablations.keys import class_of
from ablations.parsing import build_data
from ablations.processes import processes_of
from ablations.recipe import is_component
from ablations.seeding import seeded


def data_problems(recipes: Iterable[tuple[str, dict[str, Any]]], seeds: Collection[int]) -> dict[str, str]:
    """Return why data cannot be trained on or scored, each reason in a sentence or two.

    Args:
        recipes: resolved recipes by name, with devices and nodes that are numbers.
        seeds: those of their trainings, for data whose split follows the seed.

    Returns:
        The name of the first recipe that each reason concerns, by reason.
    """
    found: dict[str, str] = {}
    looked: set[tuple[str, int, int | None]] = set()
    for name, recipe in recipes:
        network = recipe["model"]["init_args"].get("network")
        classes = network["init_args"].get("num_classes") if is_component(network) else None
        for seed in seeds:
            data = json.dumps(seeded(recipe, seed)["data"], sort_keys=True)
            case = (data, processes_of(recipe["trainer"]).count, classes)
            if case not in looked:
                looked.add(case)
                for problem in _problems(json.loads(data), *case[1:]):
                    found.setdefault(problem, name)
    return found


def _problems(section: dict[str, Any], processes: int, classes: int | None) -> list[str]:
    if not hasattr(class_of(section["class_path"]), "find_problems"):
        return []
    try:
        datamodule: Any = build_data(section)
        found: list[str] = datamodule.find_problems(processes)
    except (ValueError, OSError) as error:
        return [str(error)]
    if classes is not None and classes != datamodule.num_classes:
        found.append(
            f"model.network.num_classes is {classes}, but the number of identities to train on is "
            f"{datamodule.num_classes}. Set it to that."
        )
    return found
