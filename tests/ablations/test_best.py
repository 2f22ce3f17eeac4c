"""The recipe with the tricks that earned their place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ablations import commands, workers
from ablations.best import Choice, choose, interference
from ablations.cli import main
from ablations.errors import StoreError, UserError
from ablations.planner import load_plan, single_training
from ablations.results import read_study_record
from ablations.results import write_study as write_record
from ablations.store import RunStore
from ablations.table import read_table
from tests.helpers.recipes import write_study
from tests.helpers.results_folder import plan_row, write_results

HEAD = {"command": "ablate run small", "commit": None, "versions": {}, "hardware": "", "date": ""}
TRICKS = ["cosine_schedule", "label_smoothing", {"tta_crops": {"padding": 1}}]
GOOD, BAD, NONE = 0.05, -0.05, 0.0


def scores_of(effects: dict[str, float], rows: list[dict[str, Any]], seeds: int = 5) -> dict[tuple[int, int], float]:
    """Scores in which each trick of a row has its effect; the same spread for each row."""
    spread = np.linspace(-0.002, 0.002, seeds)
    return {
        (row["index"], seed): 0.7 + sum(effects[name] for name in row["names"]) + float(spread[seed])
        for row in rows
        for seed in range(seeds)
    }


def choices_of(folder: Path, rows: list[dict[str, Any]], max_cost: float | None = None, **changes: Any) -> list[Choice]:
    write_results(folder, rows, **changes)
    return choose(read_table(folder), read_study_record(folder) or {}, max_cost)


def kept(choices: list[Choice]) -> list[str]:
    return [choice.trick for choice in choices if choice.kept]


def stack(**changes: Any) -> tuple[list[dict[str, Any]], dict[tuple[int, int], float]]:
    names = ["good", "bad", "none"]
    rows = [plan_row(0, "base", names=[])]
    rows += [plan_row(place, f"+ {name}", names=names[:place], **changes) for place, name in enumerate(names, 1)]
    return rows, scores_of({"good": GOOD, "bad": BAD, "none": NONE}, rows)


def test_a_stack_keeps_the_tricks_whose_row_is_a_gain(tmp_path: Path) -> None:
    rows, scores = stack()
    choices = choices_of(tmp_path, rows, scores=scores)
    assert kept(choices) == ["good"]
    assert [str(choice) for choice in choices] == [
        "kept good: gain, +5.00 points, training ×3.00",
        "left out bad: loss, -5.00 points, training ×1.67",
        "left out none: undecided (more than 1,000 seeds would be needed), +0.00 points, training ×1.40",
    ]


def test_leaving_one_out_keeps_the_tricks_whose_removal_is_a_loss_and_turns_their_costs_round(tmp_path: Path) -> None:
    names = ["good", "bad"]
    rows = [plan_row(0, "all tricks", names=names)]
    rows += [
        plan_row(
            place, f"- {name}", trick=name, compared_to=0, sign=-1, names=[other for other in names if other != name]
        )
        for place, name in enumerate(names, 1)
    ]
    scores = scores_of({"good": GOOD, "bad": BAD}, rows)
    choices = choices_of(tmp_path, rows, scores=scores, mode="leave-one-out")
    assert kept(choices) == ["good"]
    assert choices[0].why == "gain, +5.00 points, training ×0.33"


def test_a_trick_above_the_limit_is_left_out_and_says_so(tmp_path: Path) -> None:
    rows, scores = stack()
    assert kept(choices_of(tmp_path / "a", rows, 3.0, scores=scores)) == ["good"]
    (first, *_) = choices_of(tmp_path / "b", rows, 2.9, scores=scores)
    assert str(first) == "left out good: gain, +5.00 points, training ×3.00; its training is above --max-cost 2.9"
    (unknown, *_) = choices_of(tmp_path / "c", rows, 2.0, scores=scores, costs=False)
    assert "what it costs is unknown, so it may be above --max-cost 2" in str(unknown)
    assert kept(choices_of(tmp_path / "d", rows, scores=scores, costs=False)) == ["good"]


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limit: float) -> None:
    with pytest.raises(UserError, match="must be a number above 0"):
        choices_of(tmp_path, *stack()[:1], max_cost=limit)


def test_a_study_without_scores_is_refused(tmp_path: Path) -> None:
    rows, scores = stack()
    with pytest.raises(StoreError, match=r"the study small has no scores yet\. Run it first: ablate run small"):
        choices_of(tmp_path, rows, scores=dict.fromkeys(scores))


def subsets(sets: list[list[str]]) -> list[dict[str, Any]]:
    return [
        plan_row(
            place,
            ", ".join(names) or "base",
            trick=names[0] if len(names) == 1 else None,
            compared_to=0 if names else None,
            tricks=names,
            names=names,
        )
        for place, names in enumerate(sets)
    ]


def test_pairs_keep_single_gains_and_name_those_that_get_in_each_others_way(tmp_path: Path) -> None:
    rows = subsets([[], ["a"], ["b"], ["a", "b"]])
    scores = scores_of({"a": GOOD, "b": GOOD}, rows)
    scores |= {(3, seed): scores[1, seed] for seed in range(5)}
    assert kept(choices_of(tmp_path, rows, scores=scores, mode="pairs")) == ["a", "b"]
    table = read_table(tmp_path)
    assert list(interference(table, ["a", "b"])) == ["a and b give less together than the sum of their gains (-5.00)."]
    assert list(interference(table, ["a"])) == []


def test_shapley_keeps_the_tricks_whose_value_is_a_gain_at_the_mean_cost_over_the_orders(tmp_path: Path) -> None:
    rows = subsets([[], ["a"], ["b"], ["a", "b"]])
    scores = scores_of({"a": GOOD, "b": NONE}, rows)
    choices = choices_of(tmp_path, rows, scores=scores, mode="shapley", orders=[["a", "b"], ["b", "a"]])
    assert kept(choices) == ["a"]
    seconds = [0.5, 1.5, 2.5, 3.5]
    assert f"training ×{(seconds[1] / seconds[0] + seconds[3] / seconds[2]) / 2:.2f}" in choices[0].why


@pytest.fixture
def ablate(tmp_path, monkeypatch, capsys):
    """Run the command line in this process, planning here as well, and return its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "call", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(workers, "start_server", lambda tracked: None)

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    for name in ("out", "err"):  # rich binds its stream when it is made
        monkeypatch.setattr(getattr(commands, name), "_file", None)
    return run


@pytest.fixture
def study(tmp_path):
    """A study whose scores are made up: the first and the last trick gain. Its file, and its plan."""
    path = write_study(tmp_path, tricks=TRICKS)
    plan = load_plan(path)
    folder = tmp_path / "results/small"
    write_record(folder, plan, RunStore(tmp_path / "results/runs"), HEAD)
    lines = ["row,name,seed,status,reason,key,inference,test/accuracy"]
    for row, score in zip(plan.rows, (0.7, 0.8, 0.8, 0.9), strict=True):
        lines += [f"{row.index},{row.trick},{s},done,,{row.key},{row.inference},{score + 0.001 * s}" for s in (0, 1)]
    (folder / "scores.csv").write_text("\n".join(lines) + "\n")
    return path, plan


def test_the_recipe_has_the_kept_tricks_in_the_order_of_the_study_and_runs_alone(ablate, study, tmp_path):
    path, _ = study
    code, out, _ = ablate("best", path)
    assert code == 0
    written = tmp_path / "results/small/best.yaml"
    recipe = yaml.safe_load(written.read_text())
    wanted = load_plan(write_study(tmp_path, tricks=[TRICKS[0], TRICKS[2]])).rows[-1]
    assert recipe == wanted.recipe
    assert single_training(written, {}, None, RunStore(tmp_path)).key == wanted.key
    for text in (out, written.read_text()):
        assert "kept cosine_schedule: gain, +10.00 points" in text
        assert "left out label_smoothing: undecided" in text
        assert "No row of the study has exactly these tricks, so train it before you rely on it." in text
        assert "It runs alone: ablate fit results/small/best.yaml" in text


def test_the_verb_has_help_with_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["best", "--help"])
    assert "Example: ablate best digits" in capsys.readouterr().out


def test_a_recipe_that_a_row_has_already_names_the_row(ablate, study, tmp_path):
    path, _ = study
    scores = tmp_path / "results/small/scores.csv"
    text = scores.read_text().replace("0.901", "0.802").replace(",0.9\n", ",0.8\n")
    scores.write_text(text)
    code, out, _ = ablate("best", path, "--output", "mine/best.yaml")
    assert code == 0
    assert "It is what row 1 (+ cosine_schedule) of the study trained." in out
    assert yaml.safe_load((tmp_path / "mine/best.yaml").read_text()) == study[1].rows[1].recipe


def test_without_any_gain_the_base_is_written_and_that_is_said(ablate, study, tmp_path):
    path, plan = study
    code, out, _ = ablate("best", path, "--max-cost", 1)
    assert code == 0
    assert "No trick earned its place, so this is the base.\nIt is what row 0 (base) of the study trained." in out
    assert yaml.safe_load((tmp_path / "results/small/best.yaml").read_text()) == plan.rows[0].recipe


def test_a_study_that_has_not_run_or_has_changed_is_refused(ablate, study, tmp_path):
    path, _ = study
    code, _, err = ablate("best", path, "--results", "elsewhere")
    assert code == 2
    assert "elsewhere/small holds no study yet. Run it first: ablate run" in err
    code, _, err = ablate("best", path, "--set", "trainer.max_epochs=3")
    assert code == 2
    assert "holds the scores of another version of this study: 'base', '+ cosine_schedule'" in err
    assert "Give the same --set as for the run (ablate run small)" in err
    assert not (tmp_path / "results/small/best.yaml").exists()
