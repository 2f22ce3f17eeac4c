"""Tricks on the learning rate; the schedules themselves are tested with lit_modules."""

import pytest

from ablations.errors import RecipeError
from ablations.recipe import Recipe
from tests.ablations.tricks.case import edited


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cosine_restarts", {"cycles": 3, "min_lr": 0.01}),
        ("one_cycle", {"max_lr_factor": 2.0, "start_fraction": 0.4}),
        ("reduce_on_plateau", {"factor": 0.2, "patience": 7, "monitor": "val/loss", "mode": "min"}),
        ("exponential_decay", {"final_fraction": 0.3}),
        ("inverse_time_decay", {"final_fraction": 0.3}),
    ],
)
def test_the_arguments_of_a_schedule_reach_it(name, arguments):
    assert Recipe(edited(name, **arguments)).get("model.schedule")["init_args"] == arguments


@pytest.mark.parametrize(("monitor", "mode"), [(None, "max"), ("val/accuracy", "max"), ("val/loss", "min")])
def test_the_direction_of_a_plateau_follows_from_what_is_monitored(monitor, mode):
    schedule = Recipe(edited("reduce_on_plateau", monitor=monitor)).get("model.schedule")["init_args"]
    assert (schedule["monitor"], schedule["mode"]) == (monitor or "val/accuracy", mode)


def test_the_plateau_of_a_metric_that_is_not_known_needs_a_mode():
    with pytest.raises(RecipeError, match=r"reduce_on_plateau: whether 'val/wear' is .*Set mode to 'max' or 'min'\."):
        edited("reduce_on_plateau", monitor="val/wear")
    recipe = Recipe(edited("reduce_on_plateau", monitor="val/wear", mode="min"))
    assert recipe.get("model.schedule.mode") == "min"
