"""Tricks on the choice of weights; the averages themselves are tested with callbacks."""

from ablations.parsing import build
from ablations.recipe import Recipe, class_name
from tests.ablations.tricks.case import edited, train


def callbacks(recipe):
    return [class_name(callback) for callback in Recipe(recipe).get("trainer.callbacks")]


def test_early_stopping_shortens_a_run_only_when_asked():
    assert callbacks(edited("early_stopping")) == ["BestWeights"]
    recipe = edited("early_stopping", patience=1, monitor="val/loss", mode="min")
    assert callbacks(recipe) == ["BestWeights", "EarlyStopping"]


def test_the_run_ends_after_so_many_validations_without_a_better_one():
    recipe = Recipe(edited("early_stopping", patience=3))
    for path, value in {"trainer.max_epochs": 30, "trainer.check_val_every_n_epoch": 1}.items():
        recipe.set(path, value)
    best, stopping = build(recipe.config).trainer_arguments["callbacks"]
    module = train(recipe.config, best, stopping)
    assert module.trainer.current_epoch == best.best_epoch + 1 + 3 < 30
