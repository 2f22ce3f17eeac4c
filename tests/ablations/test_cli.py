import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from ablations import commands, workers
from ablations.cli import main
from ablations.registry import TASKS, tricks
from tests.helpers.command_line import environment, run_ablate
from tests.helpers.recipes import QUICK, digits_recipe, write_study


@pytest.fixture
def ablate(tmp_path, monkeypatch, capsys):
    """Run the command line in this process, planning here as well, and return its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "call", lambda function, *arguments: function(*arguments))

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    for name in ("out", "err"):  # rich binds its stream when it is made
        monkeypatch.setattr(getattr(commands, name), "_file", None)
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that was run once, as a user runs it, in processes of its own."""
    folder = tmp_path_factory.mktemp("finished")
    path = write_study(folder, tricks=["label_smoothing", {"tta_crops": {"padding": 1}}])
    done = run_ablate(folder, "run", path)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_ends_with_the_table_and_its_files(finished):
    folder, done = finished
    assert "+ label_smoothing" in done.stdout
    assert "0 of 4 trainings are in results/runs already" in done.stderr
    scores = pd.read_csv(folder / "results/small/scores.csv")
    assert list(scores["status"].unique()) == ["done"]
    assert sorted(zip(scores["row"], scores["seed"], strict=True)) == [
        (row, seed) for row in range(3) for seed in (0, 1)
    ]
    table = (folder / "results/small/table.md").read_text()
    assert "| 1 | + label_smoothing |" in table
    assert {path.name for path in (folder / "results/small/recipes").iterdir()} == {
        "00-base.yaml", "01-label-smoothing.yaml", "02-tta-crops.yaml",
    }  # fmt: skip


def test_a_second_run_trains_nothing_and_prints_the_same_table(finished, ablate):
    folder, done = finished
    code, out, err = ablate("run", folder / "study.yaml", "--results", folder / "results")
    assert code == 0
    assert "4 of 4 trainings are in" in err
    assert out.split() == done.stdout.split()


def test_the_table_can_be_printed_again_from_the_store(finished, ablate):
    folder, done = finished
    before = (folder / "results/small/scores.csv").read_bytes()
    (folder / "results/small/scores.csv").unlink()
    code, out, _ = ablate("table", folder / "study.yaml", "--results", folder / "results")
    assert (code, out.split()) == (0, done.stdout.split())
    assert (folder / "results/small/scores.csv").read_bytes() == before


def test_plan_says_what_is_shared_and_what_is_done(finished, ablate):
    folder, _ = finished
    code, out, _ = ablate("plan", folder / "study.yaml", "--results", folder / "results", "--seeds", 3)
    assert code == 0
    assert "3 rows x 3 seeds = 6 trainings instead of 9; 4 done, 2 to do, about" in " ".join(out.split())
    assert "those of row 1" in out


def test_show_prints_what_a_row_changes(finished, ablate):
    folder, _ = finished
    code, out, _ = ablate("show", folder / "study.yaml", "label_smoothing")
    assert code == 0
    assert "model.loss.label_smoothing: 0.0 -> 0.1" in out


def test_a_row_runs_alone_and_finds_its_stored_training(finished, ablate):
    folder, _ = finished
    recipe = folder / "results/small/recipes/01-label-smoothing.yaml"
    code, out, err = ablate("fit", recipe, "--results", folder / "results")
    assert code == 0
    assert "done already" in err
    scores = pd.read_csv(folder / "results/small/scores.csv")
    stored = scores[(scores["row"] == 1) & (scores["seed"] == 0)]["test/accuracy"].item()
    assert f"test/accuracy: {stored:.4f}" in out
    code, fresh, _ = ablate("fit", recipe, "--results", folder / "fresh")
    assert (code, fresh) == (0, out)


def test_a_changed_study_does_not_overwrite_its_table_unless_told(finished, ablate, tmp_path):
    folder, _ = finished
    path = write_study(tmp_path, tricks=["cosine_schedule"])
    before = (folder / "results/small/table.md").read_bytes()
    code, _, err = ablate("run", path, "--results", folder / "results", "--rows", 0)
    assert code == 2
    assert "'+ label_smoothing', '+ tta_crops (padding=1)' would change or go. Add --replace" in err
    assert (folder / "results/small/table.md").read_bytes() == before


def test_more_tricks_and_more_seeds_are_no_other_study(finished, ablate, tmp_path):
    folder, _ = finished
    more = write_study(tmp_path, tricks=["label_smoothing", {"tta_crops": {"padding": 1}}, "cosine_schedule"])
    shutil.copytree(folder / "results", tmp_path / "results")
    code, _, err = ablate("run", more, "--seeds", 1, "--executor", "inline")
    assert code == 0, err
    scores = pd.read_csv(tmp_path / "results/small/scores.csv")
    assert sorted(scores[scores["status"] == "done"]["seed"]) == [0] * 4 + [1] * 3  # finished seeds stay in the table


def test_a_corrupt_result_is_named_and_made_again(finished, ablate):
    folder, _ = finished
    scores = (folder / "results/small/scores.csv").read_bytes()
    result = next((folder / "results/runs").glob("*/seed-1/result.json"))
    result.write_text('{"seconds": ')
    code, _, err = ablate("run", folder / "study.yaml", "--results", folder / "results", "--executor", "inline")
    assert code == 0
    assert f"{result} cannot be read; it is made again." in err
    assert (folder / "results/small/scores.csv").read_bytes() == scores


def test_a_failed_training_stays_in_the_table_and_the_rest_goes_on(ablate, tmp_path):
    explode = {"explode": {"set": {"model.optimizer.lr": 1.0e20}}}
    path = write_study(tmp_path, tricks=[explode], seeds=1)
    code, _, err = ablate("run", path, "--executor", "inline")
    assert code == 1
    assert "failed: + explode, seed 0: The training diverged" in " ".join(err.split())
    table = (tmp_path / "results/small/table.md").read_text()
    assert "failed" in next(line for line in table.splitlines() if line.startswith("| 1 |"))
    scores = pd.read_csv(tmp_path / "results/small/scores.csv")
    assert list(scores["status"]) == ["done", "failed"]


def test_every_trick_is_listed_with_its_text_and_tasks(ablate):
    code, out, _ = ablate("tricks")
    assert code == 0
    for name in tricks():
        assert f"\n{name}" in f"\n{out}"
    code, out, _ = ablate("tricks", "--task", "detection")
    assert "cutmix" not in out
    assert "cosine_schedule" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "digitz"], "Did you mean 'digits'"),
        (["run", "nothing.yaml"], "study nothing.yaml does not exist"),
        (["run", "STUDY", "--seeds", 0], "--seeds 0: a study needs at least one seed"),
        (["run", "STUDY", "--seeds", -3], "--seeds -3: a study needs at least one seed"),
        (["run", "STUDY", "--seeds", "x"], "invalid int value: 'x'"),
        (["run", "STUDY", "--jobs", 0], "--jobs 0: at least one training"),
        (["run", "STUDY", "--rows", 9], "there is no row 9. The study has rows 0 to 2"),
        (["run", "STUDY", "--rows", "label_smothing"], "Did you mean 'label_smoothing'"),
        (["run", "STUDY", "--set", "trainer.max_epochs"], "--set takes key=value"),
        (["run", "STUDY", "--set", "trainer.max_epoch=3"], "Did you mean 'max_epochs'"),
        (["run", "STUDY", "--mode", "stacked"], "invalid choice: 'stacked'"),
        (["run", "STUDY", "--results", "STUDY/results"], "cannot be written"),
        (["run"], "the following arguments are required"),
        (["run", "STUDY", "--rows", "2-1"], "the range of rows '2-1' is empty; write the smaller number first: 1-2"),
        (["run", "STUDY", "--set", "seed_everything=3"], "follows from the study's seeds; set these, or use --seeds"),
        (["show", "STUDY", "mixup"], "there is no row 'mixup'"),
        (["show", "STUDY", "0-2"], "show takes one row, a number or a trick, not '0-2'"),
        (["table", "STUDY"], "results/small holds no study yet. Run it first: ablate run STUDY."),
        (["report", "STUDY"], "results/small holds no study yet. Run it first: ablate run STUDY."),
        (["best", "digits"], "results/digits holds no study yet. Run it first: ablate run digits."),
        (["table", "digits", "--mode", "pairs"], "Run it first: ablate run digits --mode pairs."),
        (["report", "digits", "--mode", "pairs"], "Run it first: ablate run digits --mode pairs."),
        (["best", "digits", "--mode", "shapley"], "Run it first: ablate run digits --mode shapley."),
        (["run", "STUDY", "--wandb", ""], "the W&B project '' cannot be: write PROJECT or TEAM/PROJECT"),
        (["run", "STUDY", "--wandb", " "], "the W&B project ' ' cannot be: write PROJECT or TEAM/PROJECT"),
        (["run", "STUDY", "--wandb", "a/b/c"], "the W&B project 'a/b/c' cannot be: write PROJECT or TEAM/PROJECT"),
        (["fit", "nothing.yaml"], "recipe nothing.yaml cannot be read"),
        (["fit", "STUDY"], "a recipe has no section 'name'"),
        (["tricks", "--task", "nothing"], "invalid choice: 'nothing'"),
        (["nothing"], "invalid choice: 'nothing'"),
    ],
)
def test_a_mistake_is_told_in_a_sentence_and_writes_nothing(ablate, tmp_path, arguments, says):
    study = write_study(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = ablate(*(str(argument).replace("STUDY", str(study)) for argument in arguments))
    assert code == 2
    assert says.replace("STUDY", str(study)) in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_every_verb_has_help_with_an_example(ablate):
    for verb in ("tricks", "check", "plan", "run", "show", "table", "report", "best", "fit"):
        code, out, _ = ablate(verb, "--help")
        assert code == 0
        assert f"Example: ablate {verb}" in out


def test_the_study_process_imports_neither_torch_nor_lightning():
    code = (
        "import json, sys, ablations.cli; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    assert not {"torch", "lightning", "torchvision", "torchmetrics"} & set(json.loads(done.stdout))


def test_tasks_are_those_of_the_catalogue():
    assert TASKS == ("classification", "detection", "retrieval")


MISFITS = [
    ({"data.batch_size": 101}, "100 training images do not fill one batch of batch_size=101 on each of 1 process(es)."),
    (
        {"model.network.num_classes": 7},
        "model.network.num_classes is 7, but the data has 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.",
    ),
]


@pytest.mark.parametrize(("settings", "says"), MISFITS)
def test_what_does_not_fit_the_data_is_said_before_anything_trains(ablate, tmp_path, settings, says):
    path = write_study(tmp_path, set={**QUICK, **settings})
    code, printed, said = ablate("run", path)
    assert (code, printed) == (2, "")
    assert f"row 'base': {says}" in said
    assert "Set " in said
    assert said.count(says) == 1  # though both rows have it
    assert not list(tmp_path.rglob("result.json"))
    code, _, said = ablate("plan", path)
    assert code == 0
    assert f"`ablate run` will refuse this study: row 'base': {says}" in said


@pytest.mark.parametrize(("settings", "says"), MISFITS)
def test_a_recipe_that_does_not_fit_its_data_is_not_trained(ablate, tmp_path, settings, says):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(digits_recipe(**settings)))
    code, _, said = ablate("fit", recipe)
    assert code == 2
    assert f"recipe {recipe}: {says}" in said
    assert not (tmp_path / "results" / "runs").exists()


def test_rows_that_fit_the_data_are_trained_though_another_does_not(ablate, tmp_path):
    path = write_study(tmp_path, seeds=1, tricks=["label_smoothing", {"large_batch": {"factor": 8}}])
    code, _, said = ablate("run", path)
    assert code == 2
    assert "row '+ large_batch (factor=8)': 100 training images do not fill one batch of batch_size=200" in said
    assert ablate("run", path, "--rows", "0-1", "--executor", "inline")[0] == 0
