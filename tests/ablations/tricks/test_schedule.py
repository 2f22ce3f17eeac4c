"""Tricks on the learning rate; the schedules themselves are tested with lit_modules."""

import pytest

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
