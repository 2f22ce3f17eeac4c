"""What holds for every trick: one table drives the tests, and a trick that is not in it is found."""

import importlib
import pkgutil

import lightning as L
import pytest
import torch
import yaml

from ablations.errors import RecipeError
from ablations.parsing import build, resolve
from ablations.recipe import Recipe, changes
from ablations.registry import tricks
from ablations.study_file import HERE
from tests.ablations.tricks import cases
from tests.ablations.tricks.case import QUIET, apply, base_recipe

MODULES = [
    importlib.import_module(f"{cases.__name__}.{module.name}") for module in pkgutil.iter_modules(cases.__path__)
]
CASES = [case for module in MODULES for case in module.CASES]
OFF = {path: value for module in MODULES for path, value in module.OFF.items()}
"""Every key that a trick, or a library's habit, could have switched on, with the value that is off."""

SWAPPED = {"model.schedule", "model.optimizer", "model.loss", "model.network", "model.detector"}
"""Components of row 0 that are checked by class, since they are never absent."""

HEADLINES = {"digits": "test/accuracy", "digits_retrieval": "test/map", "digit_scenes": "test/map"}
"""A number from 0 to 1 that each base of a case logs."""

STRENGTHS = {"model.optimizer.lr", "model.optimizer.weight_decay", "data.batch_size"} | {
    "data.identities_per_batch",
    "data.images_per_identity",
}
"""Numbers that row 0 cannot do without, so that no value of theirs is off."""


def test_every_trick_is_in_the_table_once_for_a_base():
    assert {case.name for case in CASES} == set(tricks())
    assert len({(case.name, case.base) for case in CASES}) == len(CASES)


def test_the_cases_of_tricks_stand_where_the_tricks_do():
    places = {name: trick.edit.__module__.rpartition(".")[2] for name, trick in tricks().items()}
    found = {case.name: module.__name__.rpartition(".")[2] for module in MODULES for case in module.CASES}
    assert found == places


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_trick_changes_what_it_says_and_nothing_else(case):
    before, after = apply(case)
    found = {}
    for change in changes(before, after):
        is_component = isinstance(change.new, dict) and "class_path" in change.new
        found[change.path] = change.new["class_path"].rpartition(".")[2] if is_component else change.new
    assert found == case.changed


@pytest.mark.parametrize("case", [case for case in CASES if case.name != "lr_finder"], ids=lambda case: case.name)
def test_a_trick_trains_two_steps_and_tests(case):  # a recipe with a search is not trained: see test_lr_search.py
    _, after = apply(case)
    L.seed_everything(0)
    parts = build(after)
    arguments = {**parts.trainer_arguments, "max_epochs": 2, "limit_train_batches": 2, "check_val_every_n_epoch": 1}
    trainer = L.Trainer(**{**arguments, **QUIET})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    assert trainer.global_step == 4 // arguments["accumulate_grad_batches"]
    parts.module.inference = parts.inference
    (metrics,) = trainer.test(parts.module, datamodule=parts.datamodule, verbose=False)
    assert 0 <= metrics[HEADLINES[case.base]] <= 1
    assert parts.module.predictions
    assert all(torch.isfinite(predicted).all() for predicted in parts.module.predictions.values())


@pytest.mark.parametrize("name", sorted(tricks()))
def test_a_trick_names_its_source_and_has_a_sentence(name):
    trick = tricks()[name]
    assert trick.source
    assert trick.text.endswith(".")
    assert trick.text[0].isupper()


@pytest.mark.parametrize("path", sorted((HERE / "bases").glob("*.yaml")), ids=lambda path: path.stem)
def test_row_0_is_pure(path):
    recipe = Recipe(resolve(yaml.safe_load(path.read_text())))
    there = {key: value for key, value in OFF.items() if has(recipe, key)}
    assert {key: recipe.get(key) for key in there} == there
    assert recipe.get("model.schedule")["class_path"] == "lit_modules.schedules.FractionalMultiStepLR"
    assert recipe.get("model.optimizer")["class_path"] == "torch.optim.SGD"


def test_every_key_that_could_be_on_is_in_a_base_of_a_case():
    recipes = [Recipe(base_recipe(base)) for base in HEADLINES]
    assert [key for key in OFF if not any(has(recipe, key) for recipe in recipes)] == []


def has(recipe, path):
    """Return whether a recipe has a key."""
    try:
        recipe.get(path)
    except RecipeError:
        return False
    return True


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_trick_switches_on_is_among_what_row_0_switches_off(case):
    for path, value in case.changed.items():
        is_component = isinstance(value, str)
        is_known = path in {*OFF, *case.before, *SWAPPED, *STRENGTHS}
        assert is_known or (is_component and path.rpartition(".")[0] in OFF)
