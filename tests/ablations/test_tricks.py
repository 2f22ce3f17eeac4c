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
from tests.ablations.tricks.case import QUIET, apply

MODULES = [
    importlib.import_module(f"{cases.__name__}.{module.name}") for module in pkgutil.iter_modules(cases.__path__)
]
CASES = [case for module in MODULES for case in module.CASES]
OFF = {path: value for module in MODULES for path, value in module.OFF.items()}
"""Every key that a trick, or a library's habit, could have switched on, with the value that is off."""

SWAPPED = {"model.schedule", "model.optimizer", "model.loss", "model.network"}
"""Components of row 0 that are checked by class, since they are never absent."""

STRENGTHS = {"model.optimizer.lr", "model.optimizer.weight_decay", "data.batch_size"}
"""Numbers that row 0 cannot do without, so that no value of theirs is off."""


def test_every_trick_is_in_the_table_once():
    assert sorted(case.name for case in CASES) == sorted(tricks())


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
    assert 0 <= metrics["test/accuracy"] <= 1
    assert torch.isfinite(parts.module.predictions["probabilities"]).all()


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


def test_every_key_that_could_be_on_is_in_the_digits_base():
    recipe = Recipe(resolve(yaml.safe_load((HERE / "bases" / "digits.yaml").read_text())))
    assert [key for key in OFF if not has(recipe, key)] == []


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
