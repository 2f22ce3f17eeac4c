"""What differs from seed to seed: the initial weights, the order of the data and, where a study says so, the split.

A recipe whose split follows the seed says so itself, in `vary`, so that it trains alone as it does in its study.
"""

from collections.abc import Collection
from typing import Any

from ablations.errors import StudyError

ALWAYS = ("init", "order")
VARY = (*ALWAYS, "split")


def varying(recipe: dict[str, Any], vary: Collection[str]) -> dict[str, Any]:
    """Return a resolved recipe that says what differs from seed to seed; by default it says nothing.

    Args:
        recipe: the resolved recipe.
        vary: some of `VARY`.

    Raises:
        StudyError: `vary` holds something else, or the split is to differ, but the data takes no `split_seed`.
    """
    if isinstance(vary, str) or not set(vary) <= set(VARY):
        raise StudyError(f"'vary' must be a list of some of {', '.join(VARY)}, not {vary!r}.")
    if "split" not in vary:
        return recipe
    data = recipe["data"]
    if "split_seed" not in (data.get("init_args") or {}):
        raise StudyError(
            f"'vary' names the split, but {data['class_path']} takes no split_seed: its test data are always the same. "
            f"Leave 'split' out of 'vary'."
        )
    return {**recipe, "vary": list(VARY)}


def seeded(recipe: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return a recipe with a seed, which is also that of the split where the recipe says that it varies."""
    config = {**recipe, "seed_everything": seed}
    if "split" in recipe.get("vary", ()):
        data = recipe["data"]
        config["data"] = {**data, "init_args": {**data["init_args"], "split_seed": seed}}
    return config
