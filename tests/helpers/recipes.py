"""Small recipes and studies for tests."""

from pathlib import Path
from typing import Any

import yaml

from ablations.parsing import resolve
from ablations.recipe import Recipe
from ablations.study_file import HERE

QUICK = {"trainer.max_epochs": 2, "trainer.check_val_every_n_epoch": 2, "model.network.width": 4}
"""Settings that make a training of the digits base take a fraction of a second."""


def digits_recipe(**settings: Any) -> dict[str, Any]:
    """Return the resolved digits base, two epochs long and four channels wide, with settings by path on top.

    Double underscores in the names of settings stand for dots.
    """
    recipe = Recipe(resolve(yaml.safe_load((HERE / "bases" / "digits.yaml").read_text())))
    for path, value in {**QUICK, **{name.replace("__", "."): value for name, value in settings.items()}}.items():
        recipe.set(path, value)
    return recipe.config


def write_study(folder: Path, **changes: Any) -> Path:
    """Write a study of the quick digits base with two tricks and two seeds; `changes` replaces or, with None, drops."""
    study: dict[str, Any] = {
        "name": "small",
        "task": "classification",
        "base": "digits",
        "metric": "test/accuracy",
        "seeds": 2,
        "tricks": ["cosine_schedule", "label_smoothing"],
        "set": dict(QUICK),
    }
    study = {key: value for key, value in {**study, **changes}.items() if value is not None}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path
