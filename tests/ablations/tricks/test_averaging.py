"""Tricks on the choice of weights; the averages themselves are tested with callbacks."""

import lightning as L
import pytest

from ablations.errors import RecipeError
from ablations.parsing import build
from ablations.recipe import Recipe, class_name
from tests.ablations.tricks.case import edited, train


def callbacks(recipe):
    return [class_name(callback) for callback in Recipe(recipe).get("trainer.callbacks")]


def test_early_stopping_shortens_a_run_only_when_asked():
    assert callbacks(edited("early_stopping")) == ["BestWeights"]
    recipe = edited("early_stopping", patience=1, monitor="val/loss", mode="min")
    assert callbacks(recipe) == ["BestWeights", "EarlyStopping"]


@pytest.mark.parametrize(
    ("monitor", "mode"), [(None, "max"), ("val/accuracy", "max"), ("val/loss", "min"), ("val/error_top_5", "min")]
)
def test_what_counts_as_best_follows_from_what_is_monitored(monitor, mode):
    recipe = Recipe(edited("early_stopping", patience=1, monitor=monitor))
    for callback in ("BestWeights", "EarlyStopping"):
        assert recipe.get(f"trainer.callbacks.{callback}.monitor") == (monitor or "val/accuracy")
        assert recipe.get(f"trainer.callbacks.{callback}.mode") == mode


def test_a_metric_that_is_not_known_needs_a_mode():
    says = (
        r"early_stopping: whether 'val/wear' is better when it is higher or lower, its name does not say. Set mode to "
    )
    with pytest.raises(RecipeError, match=says):
        edited("early_stopping", monitor="val/wear")
    recipe = Recipe(edited("early_stopping", monitor="val/wear", mode="min"))
    assert recipe.get("trainer.callbacks.BestWeights.mode") == "min"


def test_early_stopping_by_the_loss_keeps_the_epoch_of_the_lowest_loss():
    recipe = Recipe(edited("early_stopping", monitor="val/loss"))
    for path, value in {"trainer.max_epochs": 6, "trainer.check_val_every_n_epoch": 1}.items():
        recipe.set(path, value)
    (best,) = build(recipe.config).trainer_arguments["callbacks"]
    losses = Losses()
    train(recipe.config, best, losses)
    assert len(set(losses.of_epochs)) == 6
    assert best.best_score == pytest.approx(min(losses.of_epochs), rel=1e-6)
    assert best.best_epoch == losses.of_epochs.index(min(losses.of_epochs))


class Losses(L.Callback):
    """The validation loss of each epoch."""

    def __init__(self):
        self.of_epochs = []

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.of_epochs.append(trainer.callback_metrics["val/loss"].item())


def test_the_run_ends_after_so_many_validations_without_a_better_one():
    recipe = Recipe(edited("early_stopping", patience=3))
    for path, value in {"trainer.max_epochs": 30, "trainer.check_val_every_n_epoch": 1}.items():
        recipe.set(path, value)
    best, stopping = build(recipe.config).trainer_arguments["callbacks"]
    module = train(recipe.config, best, stopping)
    assert module.trainer.current_epoch == best.best_epoch + 1 + 3 < 30
