"""What differs from seed to seed, in a recipe and in its trainings."""

import copy
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import StudyError
from ablations.plan import Training
from ablations.seeding import seeded, varying


def recipe(**data: Any) -> dict[str, Any]:
    section = {"class_path": "datamodules.Digits", "init_args": data}
    return {"seed_everything": 0, "data": section, "model": {}, "trainer": {}, "inference": {}}


def training(of: dict[str, Any], seed: int) -> Training:
    return Training(key="a", seed=seed, recipe=of, scorings={}, folder=Path("a/seed-0"))


def test_the_split_stays_where_a_recipe_says_nothing() -> None:
    config = training(recipe(split_seed=7, batch_size=8), 3).config()
    assert config == {**recipe(split_seed=7, batch_size=8), "seed_everything": 3}


def test_the_split_follows_the_seed_where_the_recipe_says_so() -> None:
    written = varying(recipe(split_seed=7, batch_size=8), ("init", "order", "split"))
    before = copy.deepcopy(written)
    for seed in (0, 3):
        config = training(written, seed).config()
        assert config["seed_everything"] == seed
        assert config["data"]["init_args"] == {"split_seed": seed, "batch_size": 8}
    assert written == before, "the recipe is shared by all seeds"


def test_a_recipe_that_was_written_for_one_seed_can_be_run_with_another() -> None:
    written = seeded(varying(recipe(split_seed=7), ("init", "order", "split")), 3)
    assert seeded(written, 5) == seeded(varying(recipe(split_seed=0), ("init", "order", "split")), 5)


def test_a_recipe_says_nothing_of_what_always_varies() -> None:
    assert varying(recipe(split_seed=7), ("init", "order")) == recipe(split_seed=7)


def test_data_without_a_split_seed_cannot_vary_the_split() -> None:
    with pytest.raises(StudyError, match=r"datamodules\.Digits takes no split_seed.*Leave 'split' out of 'vary'"):
        varying(recipe(batch_size=8), ("init", "order", "split"))


@pytest.mark.parametrize("vary", ["split", ["init", "splits"]])
def test_what_cannot_vary_is_refused(vary: Any) -> None:
    with pytest.raises(StudyError, match="must be a list of some of init, order, split, not"):
        varying(recipe(split_seed=7), vary)
