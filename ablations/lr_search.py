"""Learning-rate searches: run before the trainings, once for all seeds of a row, their result written into its recipe.

A recipe with `callbacks.LRFinder` is searched in place of being trained, with the first seed of the study. What it
found takes the finder's place in the recipe, so that the row is trained, and can be repeated, without the search.
"""

import json
from typing import Any

import lightning as L

from ablations.errors import RecipeError
from ablations.parsing import Parts
from ablations.plan import LR_FINDER
from ablations.process_group import Ranks
from ablations.recipe import Recipe
from ablations.store import RunFolder, write_json
from callbacks import LRFinder

RATE = "model.optimizer.lr"


class FailedSearchError(RuntimeError):
    """The loss fell nowhere in the range of rates."""


def search(parts: Parts, folder: RunFolder, ranks: Ranks) -> None:
    """Run the search of a recipe on all its processes; the first stores what it found, with a picture.

    Raises:
        FailedSearchError: it found nothing.
    """
    arguments = ranks.trainer_arguments(parts.trainer_arguments)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    (finder,) = (callback for callback in arguments["callbacks"] if isinstance(callback, LRFinder))
    trainer = L.Trainer(**{**arguments, **quiet, "default_root_dir": str(folder.path)})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    if ranks.is_first:
        _store(finder, folder)


def _store(finder: LRFinder, folder: RunFolder) -> None:
    finder.plot(folder.search.with_suffix(".png"))
    try:
        factor = finder.suggestion / finder.initial_lr
    except ValueError as error:
        raise FailedSearchError(str(error)) from None
    found = finder.search
    record = {"factor": factor, "suggestion": found.suggestion, "rates": found.rates, "losses": found.losses}
    write_json(folder.search, record)


def with_found_rate(recipe: dict[str, Any], folder: RunFolder) -> dict[str, Any] | None:
    """Return a recipe with the rate that its search found in place of the search; `None` if there was none yet.

    Raises:
        RecipeError: the recipe has no rate that could be set.
    """
    edited = Recipe(recipe)
    rate = edited.get(RATE)
    if not isinstance(rate, int | float):
        raise RecipeError(f"{RATE!r} is {rate!r}; a search needs a rate that it can replace.")
    try:
        factor = json.loads(folder.search.read_text())["factor"]
    except (OSError, ValueError, KeyError):
        return None
    edited.set(RATE, float(f"{rate * factor:.3g}"))
    callbacks = [callback for callback in edited.get("trainer.callbacks") if callback["class_path"] != LR_FINDER]
    edited.set("trainer.callbacks", callbacks or None)
    return edited.config
