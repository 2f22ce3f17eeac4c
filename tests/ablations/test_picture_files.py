"""Pictures of the task, from scoring to the results folder."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ablations.picture_files import MOST_PICTURES, gather_pictures, read_listing, save_pictures
from ablations.plan import Scoring, Training
from ablations.planner import load_plan
from ablations.store import RunFolder, RunStore
from ablations.training import run_training
from lit_modules import LitClassifier
from lit_modules.pictures import TaskPicture
from tests.helpers.recipes import digits_recipe, write_study
from tests.helpers.results_folder import plan_row

LAST = {"last": Scoring("last", {"weights": "last", "views": None})}


def picture(value, caption="What is seen"):
    return TaskPicture(torch.full((3, 4, 5), value, dtype=torch.uint8), caption)


def store_pictures(store, row, *values, seed=0):
    folder = store.folder(row["key"], seed).pictures(row["inference"])
    save_pictures(folder, [picture(value, f"{row['name']} {value}") for value in values])


def shown(folder):
    """What a results folder shows: row, caption and colour of each picture."""
    entries = read_listing(folder / "pictures")
    values = [np.asarray(Image.open(folder / "pictures" / entry["file"])) for entry in entries]
    assert all((value == value.flat[0]).all() and value.shape == (4, 5, 3) for value in values)
    return [
        (entry.get("row"), entry["caption"], int(value.flat[0])) for entry, value in zip(entries, values, strict=True)
    ]


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


ROWS = [plan_row(0, "base"), plan_row(1, "+ flip", key="b"), plan_row(2, "+ ema", key="b", inference="ema")]


def test_a_training_keeps_pictures_only_where_it_is_asked_to(tmp_path):
    recipe = digits_recipe(trainer__max_epochs=1)
    asked = Training("key", 0, recipe, LAST, tmp_path / "key/seed-0", with_pictures=True)
    plain = replace(asked, folder=tmp_path / "other/seed-0", with_pictures=False)
    run_training(asked)
    run_training(plain)
    one, other = RunFolder(asked.folder), RunFolder(plain.folder)
    entries = read_listing(one.pictures("last"))
    assert len(entries) == MOST_PICTURES
    assert all(", taken for " in entry["caption"] for entry in entries)
    assert not other.pictures("last").exists()
    assert replace(asked, with_pictures=False) == asked  # they do not tell trainings apart
    assert one.score("last") == other.score("last")


def test_a_picture_that_cannot_be_taken_costs_no_score(tmp_path, monkeypatch, caplog):
    def broken(self, datamodule, most):
        raise KeyError("odd")

    monkeypatch.setattr(LitClassifier, "pictures", broken)
    training = Training("key", 0, digits_recipe(trainer__max_epochs=1), LAST, tmp_path / "k/s", with_pictures=True)
    with caplog.at_level(logging.WARNING, logger="ablations.scoring"):
        run_training(training)
    assert RunFolder(training.folder).score("last")
    assert [record.getMessage() for record in caplog.records if "pictures" in record.getMessage()] == [
        "There are no pictures of the task (KeyError: 'odd')."
    ]


def test_the_first_seed_of_a_study_is_asked_for_pictures(tmp_path, store):
    plan = load_plan(write_study(tmp_path, seeds=[4, 2, 7], tricks=["label_smoothing"]))
    assert {training.seed for training in plan.trainings(store) if training.with_pictures} == {2}


def test_pictures_are_stored_as_they_are(tmp_path):
    save_pictures(tmp_path / "some", [picture(7, "A <b>"), picture(9, "é")])
    assert [(entry["file"], entry["caption"]) for entry in read_listing(tmp_path / "some")] == [
        ("1.png", "A <b>"),
        ("2.png", "é"),
    ]
    assert (np.asarray(Image.open(tmp_path / "some/2.png")) == 9).all()
    save_pictures(tmp_path / "none", [])
    assert not (tmp_path / "none").exists()


def test_each_row_has_the_pictures_of_its_score(tmp_path, store):
    for row, values in zip(ROWS, [(1, 2), (3,), (4,)], strict=True):
        store_pictures(store, row, *values)
    gather_pictures(tmp_path, ROWS, 0, store)
    assert shown(tmp_path) == [(0, "base 1", 1), (0, "base 2", 2), (1, "+ flip 3", 3), (2, "+ ema 4", 4)]


def test_without_pictures_there_is_no_folder(tmp_path, store):
    gather_pictures(tmp_path, ROWS, 0, store)
    assert not (tmp_path / "pictures").exists()


def test_pictures_stay_when_the_store_is_gone_even_if_their_row_moves(tmp_path, store):
    for row, values in zip(ROWS, [(1, 2), (3,), (4,)], strict=True):
        store_pictures(store, row, *values)
    gather_pictures(tmp_path, ROWS, 0, store)
    moved = [ROWS[0], {**ROWS[2], "index": 1}]
    gather_pictures(tmp_path, moved, 0, RunStore(tmp_path / "elsewhere"))
    assert shown(tmp_path) == [(0, "base 1", 1), (0, "base 2", 2), (1, "+ ema 4", 4)]
    files = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert files == {"pictures.json", "row-00-1.png", "row-00-2.png", "row-01-1.png"}


def test_rows_that_share_a_score_share_its_pictures(tmp_path, store):
    rows = [ROWS[0], {**ROWS[0], "index": 1}]
    store_pictures(store, ROWS[0], 1)
    for runs in (store, RunStore(tmp_path / "elsewhere")):
        gather_pictures(tmp_path, rows, 0, runs)
        assert shown(tmp_path) == [(0, "base 1", 1), (1, "base 1", 1)]


def test_pictures_of_someone_else_stay(tmp_path, store):
    folder = tmp_path / "pictures"
    save_pictures(folder, [picture(9, "theirs")])
    store_pictures(store, ROWS[0], 1)
    for _ in range(2):
        gather_pictures(tmp_path, ROWS, 0, store)
        assert shown(tmp_path) == [(0, "base 1", 1), (None, "theirs", 9)]


@pytest.mark.parametrize("listing", ["{", "3", '[{"file": "../x.png"}]', '[{"file": "gone.png"}]', '[{"file": 3}, 4]'])
def test_a_listing_that_is_damaged_counts_as_none(tmp_path, listing):
    (tmp_path / "x.png").write_bytes(b"")
    (tmp_path / "some").mkdir()
    (tmp_path / "some/pictures.json").write_text(listing)
    assert read_listing(tmp_path / "some") == []


def test_a_run_shows_its_pictures_in_the_results_folder(tmp_path, store):
    row = plan_row(0, "base")
    store_pictures(store, row, 5)
    gather_pictures(tmp_path, [row], 0, store)
    (entry,) = json.loads((tmp_path / "pictures/pictures.json").read_text())
    assert entry == {
        "file": "row-00-1.png", "row": 0, "caption": "base 5", "key": row["key"], "inference": "last",
    }  # fmt: skip
