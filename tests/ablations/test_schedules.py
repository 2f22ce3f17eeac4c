"""Schedules of torch in studies and recipes, from the command line."""

import lightning as L
import pandas as pd
import pytest
import yaml

from ablations.check.subject import Subject
from ablations.yaml_file import dump_yaml
from tests.helpers.command_server import run_ablate
from tests.helpers.recipes import QUICK, digits_recipe, write_study

TORCH = "torch.optim.lr_scheduler"
EXPONENTIAL = {"class_path": f"{TORCH}.ExponentialLR", "init_args": {"gamma": 0.5}}
FOUR_EPOCHS = {**QUICK, "trainer.max_epochs": 4}


def decay(schedule):
    return {"decay": {"swap": {"model.schedule": schedule}}}


def test_a_study_trains_with_an_exponential_schedule_by_epochs_and_what_goes_with_it(tmp_path):
    tricks = [decay(EXPONENTIAL), {"linear_warmup": {"epochs": 0.5}}, {"swa": {"start_fraction": 0.75}}]
    done = run_ablate(tmp_path, "run", write_study(tmp_path, seeds=1, tricks=tricks, set=FOUR_EPOCHS))
    assert done.returncode == 0, done.stderr
    assert list(pd.read_csv(tmp_path / "results/small/scores.csv")["status"]) == ["done"] * 4
    written = yaml.safe_load((tmp_path / "results/small/recipes/01-decay.yaml").read_text())
    schedule = written["model"]["init_args"]["schedule"]
    assert schedule == {**EXPONENTIAL, "init_args": {"gamma": 0.5, "last_epoch": -1}}
    rates = {}  # of each epoch's last batch, by the number of callbacks
    for run in (tmp_path / "results/runs").glob("*/seed-0"):
        recipe = yaml.safe_load((run / "recipe.yaml").read_text())
        if recipe["model"]["init_args"]["schedule"] == schedule:
            rates[len(recipe["trainer"]["callbacks"] or [])] = list(pd.read_csv(run / "metrics.csv")["lr"])
    assert rates[0] == rates[1] == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    assert rates[2] == pytest.approx([0.1, 0.05, 0.025, 0.05])


class Rates(L.Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, *_):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_fits_of_the_check_have_the_beginning_of_a_schedule_by_epochs():
    recorder = Rates()
    Subject(digits_recipe(model__schedule=EXPONENTIAL)).fit(8, recorder)
    assert recorder.rates == pytest.approx([0.1] * 4 + [0.05] * 4)


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ({"class_path": f"{TORCH}.ExponentialLR"}, f"the argument gamma of {TORCH}.ExponentialLR is missing."),
        ({"class_path": f"{TORCH}.ReduceLROnPlateau"}, "the schedule ReduceLROnPlateau does not say which metric"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "show", "run", "fit"])
def test_a_schedule_that_cannot_be_made_is_refused_before_anything_trains(tmp_path, verb, schedule, says):
    if verb == "fit":
        config = digits_recipe()
        config["model"]["init_args"]["schedule"] = schedule
        path = tmp_path / "recipe.yaml"
        path.write_text(dump_yaml(config))
    else:
        path = write_study(tmp_path, seeds=1, tricks=[decay(schedule)])
    done = run_ablate(tmp_path, verb, path, *(["decay"] if verb == "show" else []))
    assert done.returncode == 2
    assert f"model.schedule: {says}" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
