"""What the figures are drawn from, against the numbers in `scores.csv` and in the table."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablations.report.figure_list import Material, class_changes
from ablations.report.frames import (
    cost_frame,
    frontier,
    published_frame,
    seeds_frame,
    verdict_kind,
    waterfall_frame,
)
from ablations.report.stored import CURVE_POINTS, class_recall, read_stored, thinned
from ablations.table import read_table
from tests.helpers.results_folder import METRIC, plan_row, plan_rows, write_results, write_store


def records(folder: Path) -> dict:
    return {row["index"]: row for row in json.loads((folder / "study.json").read_text())["rows"]}


def means(folder: Path) -> pd.Series:
    scores = pd.read_csv(folder / "scores.csv")
    return 100 * scores[scores["status"] == "done"].groupby("row")[METRIC].mean()


def test_every_seed_of_scores_csv_is_in_the_seeds_frame(tmp_path):
    folder = write_results(tmp_path, scores={(1, 2): "out of memory", (2, 0): None, (2, 1): math.nan})
    frame = seeds_frame(folder)
    scores = pd.read_csv(folder / "scores.csv")
    assert list(zip(frame["row"], frame["seed"], strict=True)) == list(zip(scores["row"], scores["seed"], strict=True))
    done = frame["status"] == "done"
    assert frame["value"][done].tolist() == pytest.approx((100 * scores[METRIC][done]).tolist())
    assert frame["value"][~done].isna().all()
    assert frame["status"].tolist().count("failed") == 2  # the NaN counts as failed
    assert frame["status"].tolist().count("missing") == 1


def test_the_waterfall_leads_from_mean_to_mean_with_the_tables_intervals(tmp_path):
    folder = write_results(tmp_path)
    table, expected = read_table(folder), means(folder)
    frame = waterfall_frame(table, records(folder))
    assert frame["end"].tolist() == pytest.approx(expected.tolist())
    assert frame["origin"].tolist()[1:] == pytest.approx(expected.tolist()[:-1])
    assert math.isnan(frame["origin"][0])
    for line, row in zip(frame.itertuples(), table.rows, strict=True):
        if row.gain is None:
            assert (line.low, line.high) == (row.score.low, row.score.high)
        else:
            assert (line.low, line.high) == pytest.approx((line.origin + row.gain.low, line.origin + row.gain.high))
    assert frame["kind"].tolist() == ["none", "gain", "gain"]


def test_a_trick_that_is_left_out_leads_down_by_its_gain(tmp_path):
    rows = [plan_row(0, "all"), plan_row(1, "- mixup", sign=-1)]
    folder = write_results(tmp_path, rows, mode="leave-one-out", scores={(1, seed): 0.5 for seed in range(5)})
    line = waterfall_frame(read_table(folder), records(folder)).iloc[1]
    assert line["gain"] == pytest.approx(means(folder)[0] - 50)
    assert line["end"] == pytest.approx(50)
    assert line["low"] < 50 < line["high"] < line["origin"]
    assert line["kind"] == "gain"


def test_an_interval_that_reaches_to_infinity_is_not_drawn(tmp_path):
    folder = write_results(tmp_path)
    table = read_table(folder)
    endless = [replace(row, gain=row.gain and replace(row.gain, low=-math.inf, high=math.inf)) for row in table.rows]
    table = replace(table, rows=tuple(endless))
    for frame in (waterfall_frame(table, records(folder)), published_frame(table)):
        assert frame.loc[frame["row"] > 0, ["low", "high"]].isna().all(axis=None)


def test_published_gains_stand_beside_measured_ones(tmp_path):
    folder = write_results(tmp_path, plan_rows(6))
    frame = published_frame(read_table(folder))
    expected = means(folder)
    assert frame["row"].tolist() == [1, 4]
    assert frame["published"].tolist() == [0.5, 0.5]
    assert frame["gain"].tolist() == pytest.approx([expected[1] - expected[0], expected[4] - expected[3]])


def test_costs_are_multiples_of_the_first_rows(tmp_path):
    folder = write_results(tmp_path)
    frame = cost_frame(read_table(folder), {0: 100.0, 2: 250.0})
    costs = pd.read_csv(folder / "costs.csv").groupby("key")["seconds"].mean()
    assert frame["training_time"].tolist() == pytest.approx((costs / costs.iloc[0]).tolist())
    assert frame["inference_flops"].tolist()[::2] == [1.0, 2.5]
    assert math.isnan(frame["inference_flops"][1])
    assert frame["gain"].tolist() == pytest.approx((means(folder) - means(folder)[0]).tolist())


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_the_frontier_is_what_a_naive_search_finds(higher_is_better):
    generator = np.random.default_rng(0)
    costs, gains = (pd.Series(generator.integers(0, 6, 30).astype(float)) for _ in range(2))
    gains[4] = costs[5] = math.nan
    sign = 1 if higher_is_better else -1

    def is_beaten(place):
        others = [other for other in range(30) if not math.isnan(costs[other] + gains[other])]
        return any(
            (costs[o] <= costs[place] and sign * gains[o] > sign * gains[place])
            or (costs[o] < costs[place] and gains[o] == gains[place])
            for o in others
        )

    known = [place for place in range(30) if not math.isnan(costs[place] + gains[place])]
    expected = {(costs[place], gains[place]) for place in known if not is_beaten(place)}
    found = frontier(costs, gains, higher_is_better)
    assert {(costs[place], gains[place]) for place in found} == expected
    assert len(found) == len(expected)
    assert sorted(costs[found]) == list(costs[found])


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [
        ("gain", "gain"),
        ("loss", "loss"),
        ("undecided (about 7 seeds would decide it)", "undecided"),
        ("open (after 3 seeds)", "undecided"),
        ("too small to matter (within ±0.3)", "small"),
        ("one seed only", "none"),
        ("no result", "none"),
        ("", "none"),
    ],
)
def test_a_verdict_has_a_kind(verdict, kind):
    assert verdict_kind(verdict) == kind


def stored_material(folder: Path, rows: list, seeds: int = 3, **changes) -> Material:
    write_results(folder / "small", rows, seeds, **changes)
    store = write_store(folder / "runs", rows, seeds)
    frame = seeds_frame(folder / "small")
    stored = read_stored(rows, frame, METRIC, store)
    return Material(read_table(folder / "small"), records(folder / "small"), frame, stored)


def test_curves_are_the_mean_and_the_range_over_the_seeds(tmp_path):
    rows = plan_rows(2)
    curves = stored_material(tmp_path, rows).stored.curves
    for row in rows:
        histories = [pd.read_csv(tmp_path / "runs" / row["key"] / f"seed-{seed}/metrics.csv") for seed in range(3)]
        for metric in ("train/loss", "val/accuracy"):
            curve = curves[(curves["key"] == row["key"]) & (curves["metric"] == metric)]
            values = np.stack([history[metric].dropna() for history in histories])
            assert curve["epoch"].tolist() == histories[0]["epoch"][histories[0][metric].notna()].tolist()
            assert curve["mean"].tolist() == pytest.approx(values.mean(axis=0).tolist())
            assert curve["low"].tolist() == pytest.approx(values.min(axis=0).tolist())
            assert curve["high"].tolist() == pytest.approx(values.max(axis=0).tolist())
            assert curve["n"].tolist() == [3] * len(curve)


def test_a_seed_that_failed_has_no_part_in_curves_and_recalls(tmp_path):
    rows = plan_rows(2)
    material = stored_material(tmp_path, rows, scores={(1, 0): "diverged"})
    curves = material.stored.curves
    assert set(curves.loc[curves["key"] == rows[1]["key"], "n"]) == {2}
    assert set(curves.loc[curves["key"] == rows[0]["key"], "n"]) == {3}


def test_long_curves_are_thinned_and_keep_their_ends():
    curve = pd.DataFrame({"epoch": range(1000)})
    kept = thinned(curve)["epoch"]
    assert len(kept) == CURVE_POINTS
    assert (kept.iloc[0], kept.iloc[-1]) == (0, 999)
    assert kept.diff().dropna().between(12, 13).all()
    assert thinned(curve[:CURVE_POINTS]).equals(curve[:CURVE_POINTS])


def test_recall_is_what_a_naive_count_finds():
    generator = np.random.default_rng(1)
    probabilities, targets = generator.random((50, 5)), generator.integers(0, 4, 50)
    recall = class_recall(probabilities, targets)
    for label in range(4):
        own = [
            int(np.argmax(line)) == label
            for line, target in zip(probabilities, targets, strict=True)
            if target == label
        ]
        assert recall[label] == pytest.approx(sum(own) / len(own))
    assert math.isnan(recall[4])


def test_class_changes_are_with_the_trick_minus_without_it(tmp_path):
    rows = [plan_row(0, "all"), plan_row(1, "- mixup", sign=-1)]
    material = stored_material(tmp_path, rows, mode="leave-one-out")
    changes, names = class_changes(material)
    recalls = []
    for row in rows:
        arrays = [np.load(tmp_path / "runs" / row["key"] / f"seed-{seed}/predictions/last.npz") for seed in range(3)]
        recalls.append(np.mean([class_recall(each["probabilities"], each["targets"]) for each in arrays], axis=0))
    assert names == ["- mixup"]
    assert changes.loc[1].tolist() == pytest.approx((100 * (recalls[0] - recalls[1])).tolist())


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metrics.csv", b"epoch,step\n1,2,3\n", "line 2 has 3 columns instead of 2"),
        ("metrics.csv", b"epoch,train/loss\n0,0.5\n1,hello\n", "could not convert"),
        ("metrics.csv", b"step,train/loss\n0,0.5\n", "no column epoch"),
        ("metrics.csv", b"\xff\xfe\x00", "codec"),
        ("predictions/last.npz", b"PK\x03\x04half", ""),
        ("predictions/last.npz", b"", ""),
        ("scores/last.json", b"{", ""),
        ("scores/last.json", b"[]", ""),
    ],
)
def test_a_damaged_file_of_the_store_is_named_and_left_out(tmp_path, name, content, reason):
    rows = plan_rows(2)
    write_results(tmp_path / "small", rows, 2)
    store = write_store(tmp_path / "runs", rows, 2)
    path = store.folder(rows[1]["key"], 1).path / name
    path.write_bytes(content)
    stored = read_stored(rows, seeds_frame(tmp_path / "small"), METRIC, store)
    (sentence,) = stored.damaged
    assert sentence.startswith(f"runs/{rows[1]['key']}/seed-1/{name} cannot be read (")
    assert reason in sentence
    assert str(tmp_path) not in sentence
    assert set(stored.recalls) == {0, 1}
