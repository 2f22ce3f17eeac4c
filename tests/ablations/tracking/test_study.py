"""`ablate run --wandb` from the command line: every training and the table."""

import json
import subprocess
import sys

import pytest

from ablations.yaml_file import dump_yaml
from tests.helpers import command_line
from tests.helpers.command_line import environment
from tests.helpers.command_server import run_ablate
from tests.helpers.recipes import QUICK, digits_recipe, write_study
from tests.helpers.wandb_files import stored_runs


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path, seeds=1, tricks=["cosine_schedule", "ema"], wandb={"project": "project"})


def test_a_study_sends_each_training_and_its_table(offline, study, tmp_path):
    done = command_line.run_ablate(tmp_path, "run", study)  # with a server of its own, which has the client loaded
    assert done.returncode == 0, done.stderr
    *trainings, summary = sorted(stored_runs(tmp_path), key=lambda stored: stored.run.job_type == "summary")
    assert {stored.run.display_name for stored in trainings} == {"00 base / seed 0", "01 + cosine_schedule / seed 0"}
    shared = next(stored for stored in trainings if stored.run.display_name.startswith("01"))
    assert list(shared.run.tags) == ["row 01", "row 02", "cosine_schedule", "ema"]
    assert sum(name.startswith("scores/ema") and name.endswith("accuracy") for name in shared.summary) == 1
    assert {stored.run.run_group for stored in (*trainings, summary)} == {"small"}
    assert (summary.run.run_id, summary.run.job_type, summary.exit_code) == ("small-summary", "summary", 0)
    files = [name for name in summary.artifacts["small-results"] if not name.startswith("pictures/")]
    assert files == ["costs.csv", "scores.csv", "table.csv", "table.md"]
    assert "pictures/pictures.json" in summary.artifacts["small-results"]
    path, *_ = tmp_path.glob("results/small/wandb/*/files/media/table/*.json")
    table = json.loads(path.read_text())
    names = table["columns"].index("name")
    assert [line[names] for line in table["data"]] == ["base", "+ cosine_schedule", "+ ema"]
    assert not (tmp_path / "wandb").exists()


def test_a_training_on_two_processes_has_one_run_with_its_scores(offline, tmp_path):
    settings = {**QUICK, "trainer.devices": 2, "trainer.strategy": "ddp"}
    study = write_study(tmp_path, seeds=1, tricks=["label_smoothing"], set=settings, wandb={"project": "project"})
    done = run_ablate(tmp_path, "run", study, "--rows", "0", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    (training,) = (stored for stored in stored_runs(tmp_path) if stored.run.job_type != "summary")
    assert (training.run.display_name, training.exit_code) == ("00 base / seed 0", 0)
    assert [line["epoch"] for line in training.history if "train/loss" in line] == [0, 1]
    (path,) = tmp_path.glob("results/runs/*/seed-0/scores/last.json")
    assert training.summary["test/accuracy"] == json.loads(path.read_text())["metrics"]["test/accuracy"]


def test_a_recipe_that_runs_alone_has_its_run(offline, tmp_path):
    (tmp_path / "mine.yaml").write_text(dump_yaml(digits_recipe()))
    done = run_ablate(tmp_path, "fit", "mine.yaml", "--seed", 5, "--wandb", "team/project")
    assert done.returncode == 0, done.stderr
    (stored,) = stored_runs(tmp_path)
    assert (stored.run.display_name, stored.run.entity, stored.run.project) == ("mine / seed 5", "team", "project")
    assert stored.config["seed_everything"] == 5
    assert stored.exit_code == 0
    assert f"test/accuracy: {stored.summary['test/accuracy']:.4f}" in done.stdout
    assert [line["epoch"] for line in stored.history if "train/loss" in line] == [0, 1]
    assert any("pictures/last/captions" in line for line in stored.history)


def test_the_command_line_imports_no_client():
    code = "import ablations.commands, sys; sys.exit('wandb' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0
