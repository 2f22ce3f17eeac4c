"""One trick in the table that drives the tests which hold for all tricks."""

from dataclasses import dataclass, field
from typing import Any

import lightning as L
import yaml

from ablations.parsing import build, resolve, resolve_edits
from ablations.recipe import Recipe
from ablations.registry import tricks
from ablations.study_file import HERE
from tests.helpers.recipes import digits_recipe

CUT_DOWN: dict[str, dict[str, Any]] = {
    "digits_retrieval": {"trainer.max_epochs": 2, "trainer.check_val_every_n_epoch": 2, "model.network.width": 4},
    "digit_scenes": {"data.train_scenes": 16, "data.val_scenes": 8, "data.test_scenes": 8, "data.eval_batch_size": 8},
}
"""Settings by base that make a training of it take a fraction of a second."""

QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)


@dataclass(frozen=True)
class Case:
    """A trick, what it must change in a base recipe, and what has to be set there first.

    Args:
        name: the trick.
        changed: by path: the new value, or the class name of the new component.
        arguments: what the trick is given.
        before: set in the base first, so that the trick has something to change or to build on.
        base: the name of the base recipe.
    """

    name: str
    changed: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    base: str = "digits"


def apply(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the recipe before and after a trick."""
    recipe = Recipe(base_recipe(case.base))
    for path, value in case.before.items():
        recipe.set(path, value)
    before = resolve(recipe.config)
    after = Recipe(before)
    tricks()[case.name].apply(after, case.arguments)
    return before, resolve_edits(before, after.config)


def base_recipe(base: str) -> dict[str, Any]:
    """Return a resolved base recipe; the small ones are cut down to a fraction of a second."""
    if base == "digits":
        return digits_recipe()
    recipe = Recipe(resolve(yaml.safe_load((HERE / "bases" / f"{base}.yaml").read_text())))
    for path, value in CUT_DOWN.get(base, {}).items():
        recipe.set(path, value)
    return recipe.config


def edited(name: str, base: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    """Return the digits base, or another recipe, with a trick."""
    recipe = Recipe(base or digits_recipe())
    tricks()[name].apply(recipe, arguments)
    return recipe.config


def train(recipe: dict[str, Any], *callbacks: L.Callback, **settings: Any) -> L.LightningModule:
    """Return the module of a recipe after a training from seed 0, with the callbacks in place of the recipe's own."""
    L.seed_everything(0)
    parts = build(recipe)
    trainer = L.Trainer(**{**parts.trainer_arguments, **QUIET, "callbacks": list(callbacks), **settings})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    return parts.module
