"""Gathering a results folder again, with a store that holds less than it once did."""

from pathlib import Path

import pandas as pd
import pytest

from ablations.results import gather
from ablations.store import RunStore, write_json
from ablations.table import read_table
from tests.helpers.results_folder import METRIC, plan_rows, write_results


def test_a_failed_seed_stays_failed_where_the_store_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    write_results(folder, plan_rows(2), 3, scores={(1, 0): "out of memory", (1, 2): None})
    gather(folder, RunStore(tmp_path / "nothing"))
    row = read_table(folder).rows[1]
    assert (row.n_done, row.n_failed, row.n_missing) == (1, 1, 1)
    assert [(failure.reason, failure.seeds) for failure in row.failures] == [("out of memory", (0,))]


def test_a_failed_seed_that_runs_again_is_not_failed_any_more(tmp_path: Path) -> None:
    folder, rows = tmp_path / "small", plan_rows(2)
    write_results(folder, rows, 3, scores={(1, 0): "out of memory"})
    store = RunStore(tmp_path / "runs")
    run = store.folder(rows[1]["key"], 0)
    run.path.mkdir(parents=True)
    write_json(run.path / "status.json", {"state": "running"})
    gather(folder, store)
    row = read_table(folder).rows[1]
    assert (row.n_done, row.n_failed, row.n_missing) == (2, 0, 1)


@pytest.mark.parametrize(("name", "value"), [("test/loss", "nan"), ("test/loss", "inf"), (METRIC, "nan")])
def test_an_earlier_line_that_is_no_score_does_not_stay_done(tmp_path: Path, name: str, value: str) -> None:
    folder, rows = tmp_path / "small", plan_rows(2)
    write_results(folder, rows, 3)
    scores = pd.read_csv(folder / "scores.csv", dtype=str, keep_default_na=False).assign(**{"test/loss": "0.5"})
    scores.loc[(scores["row"] == "1") & (scores["seed"] == "0"), name] = value
    scores.to_csv(folder / "scores.csv", index=False)
    store = RunStore(tmp_path / "runs")
    run = store.folder(rows[1]["key"], 0)
    run.path.mkdir(parents=True)
    write_json(run.path / "status.json", {"state": "failed", "reason": "test/loss is nan"})
    gather(folder, store)
    row = read_table(folder).rows[1]
    assert (row.n_done, row.n_failed, row.n_missing) == (2, 1, 0)


def test_a_finished_line_stays_where_the_store_has_a_later_failure(tmp_path: Path) -> None:
    folder, rows = tmp_path / "small", plan_rows(2)
    write_results(folder, rows, 3)
    store = RunStore(tmp_path / "runs")
    run = store.folder(rows[1]["key"], 0)
    run.path.mkdir(parents=True)
    write_json(run.path / "status.json", {"state": "failed", "reason": "out of memory"})
    gather(folder, store)
    assert read_table(folder).rows[1].n_done == 3
