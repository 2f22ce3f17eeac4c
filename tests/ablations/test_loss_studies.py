"""A study of the loss from its file to its table and report: what falls is a gain, and losses are no percentages."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from ablations.best import choose
from ablations.planner import load_plan
from ablations.report import make_report
from ablations.report.headline import answer, question
from ablations.report.latex import to_latex
from ablations.results import read_study_record
from ablations.results import write_study as write_study_files
from ablations.store import RunStore
from ablations.table import Table, read_table, to_markdown, to_rich
from tests.helpers.command_server import run_ablate
from tests.helpers.recipes import write_study
from tests.helpers.results_folder import plan_row, write_results

OF_THE_LOSS = {"metric": "test/loss", "scale": 1.0, "unit": "", "higher_is_better": False}
ROWS = [plan_row(0, "base"), plan_row(1, "+ good", published=-0.01), plan_row(2, "+ bad"), plan_row(3, "+ none")]
MEANS = (0.425, 0.412, 0.431, 0.431)
SPREAD = (0.0, 0.0008, -0.0006, 0.0004, -0.0006)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scores = {(row, seed): mean + SPREAD[seed] for row, mean in enumerate(MEANS) for seed in range(5)}
    return write_results(tmp_path / "small", ROWS, scores=scores, **OF_THE_LOSS)


@pytest.fixture
def table(folder: Path) -> Table:
    return read_table(folder)


def terminal(table: Table) -> str:
    console = Console(file=StringIO(), width=140)
    console.print(to_rich(table))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_fall_of_the_loss_is_a_gain_and_a_rise_is_a_loss(table: Table) -> None:
    assert [row.verdict.partition(" (")[0] for row in table.rows] == ["", "gain", "loss", "undecided"]
    gains = [row.gain.estimate for row in table.rows if row.gain]
    assert gains == pytest.approx([-0.013, 0.019, 0.0], abs=1e-12)
    assert [round(row.improvement.estimate, 2) for row in table.rows if row.improvement] == [1.0, 0.0, 0.5]


def test_losses_have_as_many_digits_in_each_output_and_no_unit(table: Table) -> None:
    markdown, shown, latex = to_markdown(table), terminal(table), to_latex(table)
    for text in (markdown, shown):
        assert "0.4120 ± 0.0008" in text
        assert "-0.0130" in text and "+0.0190" in text and "-0.0100" in text
        assert "(%)" not in text and " points" not in text
    assert r"0.4120 $\pm$ 0.0008 & -0.0130 {[}-0.01" in latex
    assert r"(\%)" not in latex


def test_each_output_says_that_lower_is_better(table: Table, folder: Path) -> None:
    assert "- Metric: test/loss, lower is better\n" in to_markdown(table)
    assert "small: test/loss, lower is better, 5 seeds" in terminal(table)
    assert "Study small: test/loss, lower is better, 5 seeds, stack" in to_latex(table)
    page = make_report(folder, RunStore(folder / "runs")).page
    assert "<dd>test/loss, lower is better</dd>" in page
    assert "gain over row 0, test/loss, lower is better" in page


def test_the_headline_counts_falls_as_gains(table: Table) -> None:
    assert question(table) == "Which of 3 tricks lower test/loss, each added to the ones before?"
    assert answer(table) == (
        "1 of 3 is a gain: good (-0.0130); 1 is a loss: bad (+0.0190); 1 stays undecided with these seeds. The whole "
        "stack goes from 0.4250 to 0.4310."
    )


def test_what_lowers_the_loss_is_kept(table: Table, folder: Path) -> None:
    choices = choose(table, read_study_record(folder) or {})
    assert [choice.trick for choice in choices if choice.kept] == ["good"]
    assert choices[0].why.startswith("gain, -0.0130, training")


def test_a_race_stops_at_a_fall_with_a_gain_and_takes_its_effect_in_the_metrics_unit(folder: Path) -> None:
    study = json.loads((folder / "study.json").read_text())
    race = {"max_seeds": 5, "first": 3, "effect": 0.005}
    (folder / "study.json").write_text(json.dumps({**study, "race": race}))
    rows = read_table(folder).rows
    verdicts = [row.verdict for row in rows[1:]]
    assert verdicts == ["gain", "loss", "too small to matter (within ±0.005)"]
    assert [row.decision.seeds for row in rows if row.decision] == [3, 3, 3]


def test_a_study_of_the_loss_runs_and_compares_what_the_labels_say(tmp_path: Path) -> None:
    """Smoothing by one half makes the loss that trains much larger, which the table must not show."""
    tricks = [
        {"label_smoothing": {"epsilon": 0.5}},
        {"longer": {"set": {"trainer.max_epochs": 16, "trainer.check_val_every_n_epoch": 16}}},
    ]
    study = write_study(tmp_path, metric="test/loss", tricks=tricks, mode="one-at-a-time")
    done = run_ablate(tmp_path, "run", study)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results/small"
    record = json.loads((folder / "study.json").read_text())
    assert [record[key] for key in ("scale", "unit", "higher_is_better")] == [1.0, "", False]
    with (folder / "table.csv").open() as file:
        base, smoothed, longer = csv.DictReader(file)
    for line in (base, smoothed, longer):
        expected = [float(score["test/loss"]) for score in _scores(folder) if score["row"] == line["row"]]
        assert float(line["mean"]) == pytest.approx(sum(expected) / 2)
    assert (float(longer["gain"]) < -0.3, longer["verdict"]) == (True, "gain"), "eight times as many epochs"
    with_labels = [_likelihood(path) for path in sorted(tmp_path.glob("results/runs/*/seed-0/predictions/last.npz"))]
    stored = [float(score["test/loss"]) for score in _scores(folder) if score["seed"] == "0"]
    assert sorted(stored) == pytest.approx(sorted(with_labels), rel=1e-4)
    assert "test/loss, lower is better" in done.stdout
    text = (folder / "table.md").read_text()
    assert f"{float(longer['gain']):+.4f}" in text


@pytest.mark.parametrize(
    ("changes", "unit"),
    [({}, "%"), ({"scale": 1}, ""), ({"metric": "test/loss", "scale": 100}, ""), ({"metric": "test/error"}, "%")],
)
def test_shares_alone_have_percentages(tmp_path: Path, changes: dict[str, Any], unit: str) -> None:
    plan = load_plan(write_study(tmp_path, **changes))
    write_study_files(tmp_path / "results", plan, RunStore(tmp_path / "runs"), {})
    assert json.loads((tmp_path / "results" / "study.json").read_text())["unit"] == unit


def _scores(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def _likelihood(path: Path) -> float:
    with np.load(path) as arrays:
        probabilities, targets = arrays["probabilities"], arrays["targets"]
    return float(-np.log(probabilities[np.arange(len(targets)), targets]).mean())
