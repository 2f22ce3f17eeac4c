import os
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from ablations import commands, workers
from ablations.commands.shared_steps import goes_offline
from ablations.errors import StudyError, UserError
from ablations.plan import Plan, Row, Scoring
from ablations.store import RunStore
from ablations.study import Study, TrickUse
from ablations.study_file import read_study
from ablations.tracking import Tracking, check_project, track_recipe, track_study
from tests.helpers.recipes import write_study

RECIPE = {"seed_everything": 0, "trainer": {}, "model": {}, "data": {}, "inference": {"weights": "last"}}
TRICKS = ("cosine", "ema", "flip")


def plan(mode="stack", **changes):
    study = Study(
        Path("s.yaml"), "small", "classification", Path("b.yaml"), "test/accuracy", (0, 3),
        tuple(map(TrickUse, TRICKS)), mode,
    )  # fmt: skip
    keys, inferences = ("a", "b", "b", "c"), ("last", "last", "ema", "last")
    rows = tuple(
        Row(index, f"+ {trick}" if trick else "base", "", trick, None, 1, RECIPE, "", key, inference, **changes)
        for index, (trick, key, inference) in enumerate(zip((None, *TRICKS), keys, inferences, strict=True))
    )
    scorings = {"a": {"last": Scoring("last", {})}, "c": {"last": Scoring("last", {})}}
    scorings["b"] = {"last": Scoring("last", {}), "ema": Scoring("ema", {})}
    return Plan(study, rows, dict.fromkeys("abc", RECIPE), scorings)


def trackings(made):
    trainings = made.trainings(RunStore(Path("runs")))
    tracked = track_study(made, trainings, "team/p", offline=False)
    assert tracked == trainings  # nothing but the tracking differs, and that does not count
    return {(training.key, training.seed): training.tracking for training in tracked}


def test_rows_that_share_a_training_all_stand_in_its_run():
    found = trackings(plan())
    assert found["b", 3] == Tracking(
        project="team/p",
        name="01 + cosine / seed 3",
        study="small",
        rows=("01 + cosine", "02 + ema"),
        tags=("row 01", "row 02", "cosine", "ema"),
        inference="last",
    )
    assert found["a", 0].tags == ("row 00",)
    assert found["c", 0].tags == ("row 03", "cosine", "ema", "flip")


@pytest.mark.parametrize(
    ("mode", "changes", "tags"),
    [
        ("leave-one-out", {}, ("row 03", "cosine", "ema")),
        ("one-at-a-time", {}, ("row 03", "flip")),
        ("pairs", {"tricks": ("cosine", "flip")}, ("row 03", "cosine", "flip")),
    ],
)
def test_the_tags_are_the_tricks_that_are_on_in_every_mode(mode, changes, tags):
    assert trackings(plan(mode, **changes))["c", 0].tags == tags


def test_a_recipe_that_runs_alone_is_called_after_its_file():
    training = plan().trainings(RunStore(Path("runs")))[0]
    tracked = track_recipe(training, Path("recipes/00-base.yaml"), "p", offline=True)
    assert tracked.tracking == Tracking("p", "00-base / seed 0", inference="last", offline=True)


def test_tracking_is_no_part_of_what_tells_trainings_apart():
    (field,) = (
        field for field in fields(type(plan().trainings(RunStore(Path("runs")))[0])) if field.name == "tracking"
    )
    assert not field.compare


@pytest.mark.parametrize("project", ["p", "my project", "team/p"])
def test_a_project_may_have_a_team(project):
    assert check_project(project) == project


@pytest.mark.parametrize("project", ["", " ", "p ", " p", "team/ p", "a/b/c", "50%", "/p", "a:b", "x" * 129])
def test_a_project_that_w_and_b_refuses_is_refused_at_once(project):
    with pytest.raises(UserError, match="cannot be: write PROJECT or TEAM/PROJECT"):
        check_project(project)


def test_a_study_names_its_project(tmp_path):
    assert read_study(write_study(tmp_path, wandb={"project": "team/p"})).wandb_project == "team/p"
    assert read_study(write_study(tmp_path)).wandb_project == ""


@pytest.mark.parametrize(
    ("wandb", "message"),
    [
        ({"projekt": "p"}, "'wandb' must be `{project: NAME}`, not {'projekt': 'p'}"),
        ({"project": 3}, "'wandb' must be `{project: NAME}`"),
        ({"project": "a/b/c"}, "'wandb': the W&B project 'a/b/c' cannot be"),
        ("p", "'wandb' must be a mapping, not 'p'"),
    ],
)
def test_a_wrong_project_in_a_study_is_one_of_its_problems(tmp_path, wandb, message):
    with pytest.raises(StudyError) as error:
        read_study(write_study(tmp_path, wandb=wandb))
    assert message in str(error.value)


def test_that_w_and_b_does_not_answer_is_said_once_for_all_trainings(capsys, monkeypatch):
    monkeypatch.setattr(commands.err, "_file", None)
    assert goes_offline("connection refused")
    assert capsys.readouterr().err.startswith("W&B cannot be reached (connection refused). The trainings go on;")
    assert not goes_offline("")
    assert capsys.readouterr().err == ""


def loaded_client():
    return "wandb" in sys.modules, os.environ.get("WANDB_SERVICE")


def test_the_server_of_the_workers_has_no_client_that_they_would_share():
    assert workers.call(loaded_client) == (False, None)
