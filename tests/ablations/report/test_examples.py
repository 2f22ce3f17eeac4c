"""Gains over other seeds and other test images."""

import numpy as np
import pytest

from ablations.report import make_report
from ablations.report.examples import RESAMPLES, example_intervals, outcomes_of
from ablations.report.frames import seeds_frame
from ablations.report.stored import read_stored
from ablations.statistics import crossed_difference
from ablations.table import read_table
from tests.helpers.results_folder import METRIC, plan_row, plan_rows, write_results, write_store

SEEDS = 3


def right_of(store, row):
    """Which images each seed of a row got right, `(S, E)`, straight from the files."""
    right = []
    for seed in range(SEEDS):
        with np.load(store.folder(row["key"], seed).predictions(row["inference"])) as arrays:
            right.append(
                [int(np.argmax(p)) == t for p, t in zip(arrays["probabilities"], arrays["targets"], strict=True)]
            )
    return np.array(right, dtype=float)


def write_all(folder, rows, change=None, **changes):
    """Write a store, and a results folder whose scores are the shares of right images in it."""
    store = write_store(folder / "runs", rows, SEEDS)
    scores = {(row["index"], seed): float(right_of(store, row)[seed].mean()) for row in rows for seed in range(SEEDS)}
    write_results(folder / "small", rows, SEEDS, scores={**scores, **(change or {})}, **changes)
    return store


def intervals(folder, rows, store):
    seeds = seeds_frame(folder / "small")
    stored = read_stored(rows, seeds, METRIC, store)
    signs = {row["index"]: row["sign"] for row in rows}
    return example_intervals(read_table(folder / "small"), signs, seeds, stored.outcomes)


def test_the_interval_is_that_of_the_stored_outcomes(tmp_path):
    rows = plan_rows(3)
    store = write_all(tmp_path, rows)
    found = intervals(tmp_path, rows, store)
    assert [item.row for item in found] == [1, 2]
    table = read_table(tmp_path / "small")
    for item, row, before in zip(found, rows[1:], rows, strict=False):
        sides = [100 * right_of(store, each) for each in (row, before)]
        expected = crossed_difference(*sides, np.random.default_rng(item.row), resamples=RESAMPLES)
        assert (item.gain.low, item.gain.high) == (expected.low, expected.high)
        assert item.gain.estimate == pytest.approx(table.rows[item.row].gain.estimate)
        assert item.images == 40
        assert item.gain.low < item.gain.estimate < item.gain.high


def test_a_trick_that_is_left_out_keeps_its_sign(tmp_path):
    rows = [plan_row(0, "all"), plan_row(1, "- mixup", sign=-1)]
    store = write_all(tmp_path, rows, mode="leave-one-out")
    (item,) = intervals(tmp_path, rows, store)
    expected = 100 * (right_of(store, rows[0]).mean() - right_of(store, rows[1]).mean())
    assert item.gain.estimate == pytest.approx(expected)


def test_rows_that_score_the_same_trainings_are_compared_in_pairs(tmp_path):
    rows = [plan_row(0, "base"), plan_row(1, "+ flip", key=plan_row(0, "base")["key"], inference="flip")]
    store = write_all(tmp_path, rows)
    (item,) = intervals(tmp_path, rows, store)
    sides = [100 * right_of(store, row) for row in rows[::-1]]
    expected = crossed_difference(*sides, np.random.default_rng(1), paired=True, resamples=RESAMPLES)
    assert (item.gain.low, item.gain.high) == (expected.low, expected.high)


def test_scores_that_are_no_share_of_right_images_have_none(tmp_path):
    rows = plan_rows(3)
    store = write_all(tmp_path, rows, change={(2, 1): 0.1234})
    assert [item.row for item in intervals(tmp_path, rows, store)] == [1]


def test_a_row_whose_predictions_are_not_all_there_has_none(tmp_path):
    rows = plan_rows(3)
    store = write_all(tmp_path, rows)
    store.folder(rows[2]["key"], 1).predictions("last").unlink()
    assert [item.row for item in intervals(tmp_path, rows, store)] == [1]


def test_seeds_that_were_tested_on_different_images_have_no_outcomes_in_common():
    right = {0: np.array([True, False]), 1: np.array([True, True])}
    assert outcomes_of(right, {0: np.array([1, 2]), 1: np.array([1, 2])}).right == right
    assert outcomes_of(right, {0: np.array([1, 2]), 1: np.array([2, 1])}) is None
    assert outcomes_of({}, {}) is None


def test_the_page_shows_them(tmp_path):
    rows = plan_rows(2)
    store = write_all(tmp_path, rows)
    (item,) = intervals(tmp_path, rows, store)
    page = make_report(tmp_path / "small", store).page
    assert "Gains on other test images" in page
    assert f"[{item.gain.low:+.2f}, {item.gain.high:+.2f}]" in page
    write_results(tmp_path / "small", rows, SEEDS)  # scores of another metric
    assert "Gains on other test images" not in make_report(tmp_path / "small", store).page
