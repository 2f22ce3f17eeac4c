"""The retrieval studies: they plan, rows parse and take two steps at their real input size, and features are fused."""

import re

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import save_file

from ablations.executors import Finished, run_inline
from ablations.parsing import build, build_inference, resolve
from ablations.planner import load_plan
from ablations.recipe import Recipe
from ablations.scoring import score_weights
from ablations.store import RunFolder, RunStore
from ablations.study_file import find_study
from lit_modules.inference import Inference, Ranking
from tests.ablations.tricks.case import QUIET, base_recipe
from tests.datamodules.image_files import smooth_pixels, write_image
from tests.helpers.recipes import write_study

MARKET = "market1501_resnet50"
ROWS = range(len(yaml.safe_load(find_study(MARKET).read_text())["tricks"]))
"""All but the last, re-ranking, which is scored with the weights of the one before."""
FEW_PERSONS = {"model.network.num_classes": 2, "data.identities_per_batch": 2, "data.images_per_identity": 2}
ALPHABETS = {
    "background_small1": ("Korean", "Early_Aramaic", "Balinese"),
    "background_small2": ("Sanskrit", "Tagalog", "Japanese_(katakana)"),
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Folders laid out as Market-1501 and Omniglot are, of a few generated pictures."""
    root = tmp_path_factory.mktemp("data")
    files = {"bounding_box_train": (2, 7), "query": (3, 9), "bounding_box_test": (3, 9, 0)}
    for folder, persons in files.items():
        for person in persons:
            for camera in (1,) if folder == "query" else (1, 2):
                name = f"{person:04}_c{camera}s1_{person:06}_0{camera}.jpg"
                path = root / "Market-1501-v15.09.15" / folder / name
                write_image(path, smooth_pixels(128, 64, seed=10 * person + camera))
    for part, alphabets in ALPHABETS.items():
        for alphabet in alphabets:
            for character in range(3):
                for number in range(4):
                    path = root / "omniglot_small" / part / alphabet / f"character0{character}" / f"{number}.png"
                    write_image(path, smooth_pixels(35, 35, seed=100 * character + number)[..., 0])
    return root


@pytest.fixture(scope="module")
def plans(data_dir):
    """The plans of both studies, by name; without the weights of ImageNet, and with batches of so few pictures."""
    settings = {
        MARKET: {"model.init": None, **FEW_PERSONS},
        "omniglot_retrieval": {"model.network.num_classes": 3, "data.identities_per_batch": 3},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRICKSTACK_DATA", str(data_dir))
        yield {name: load_plan(find_study(name), settings=setting) for name, setting in settings.items()}


@pytest.mark.parametrize("name", [MARKET, "omniglot_retrieval"])
def test_a_study_plans_and_its_rows_are_what_ablate_fit_reads(plans, name):
    plan = plans[name]
    assert len(plan.rows) == len(plan.study.tricks) + 1
    for row in plan.rows:
        assert resolve(yaml.safe_load(yaml.safe_dump(row.recipe))) == row.recipe
    assert plan.rows[-1].key == plan.rows[-2].key  # re-ranking trains nothing


class StopAfterTwoSteps(L.Callback):
    """Ends a run whose planned length stays what it is, since schedules and warm-up follow from it."""

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step == 2


@pytest.mark.parametrize("index", ROWS)
def test_a_row_of_market_takes_two_steps_and_is_scored(plans, index):
    recipe = Recipe(plans[MARKET].rows[index].recipe)
    settings = {"num_workers": 0, "eval_batch_size": 4}
    for path, value in {
        **{f"data.{key}": value for key, value in settings.items()},
        "trainer.accelerator": "cpu",
    }.items():
        recipe.set(path, value)
    L.seed_everything(0, verbose=False)
    parts = build(recipe.config)
    callbacks = [*(parts.trainer_arguments["callbacks"] or []), StopAfterTwoSteps()]
    trainer = L.Trainer(**{**parts.trainer_arguments, **QUIET, "callbacks": callbacks})
    seen = []
    parts.module.network.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    trainer.fit(parts.module, datamodule=parts.datamodule)
    assert trainer.global_step == 2 and seen == [(4, 3, 256, 128)] * 2
    ways = [recipe.config, plans[MARKET].rows[-1].recipe] if index == ROWS[-1] else [recipe.config]
    for way in ways:
        parts.module.inference = build_inference(way["inference"])
        (scores,) = trainer.test(parts.module, datamodule=parts.datamodule, verbose=False)
        assert 0 < scores["test/map"] <= 1 and scores["test/unmatched_queries"] == 0
    assert parts.module.predictions["features"].shape == (8, 2048)


def test_features_of_two_rows_are_ranked_side_by_side(tmp_path):
    tricks = ["triplet_loss", {"feature_fusion": {"members": ["triplet_loss"], "weights": [1.0, 0.5]}}]
    quick = {"trainer.max_epochs": 1, "trainer.check_val_every_n_epoch": 2, "model.network.width": 4}
    changes = {"task": "retrieval", "base": "digits_retrieval", "metric": "test/map", "mode": "one-at-a-time"}
    path = write_study(tmp_path, **changes, tricks=tricks, seeds=1, set={**quick, "model.schedule": None})
    plan = load_plan(path)
    store = RunStore(tmp_path / "runs")
    ended = [event for event in run_inline(plan.trainings(store), jobs=1) if isinstance(event, Finished)]
    assert [event.reason for event in ended] == [""] * 3
    found = []
    for row in plan.rows[:2]:
        with np.load(store.folder(row.key, 0).predictions("last")) as file:
            found.append({name: torch.from_numpy(file[name]) for name in file})
    fused = torch.cat([F.normalize(found[0]["features"]), 0.5 * F.normalize(found[1]["features"])], dim=1)
    row = plan.rows[2]
    (name,) = [name for training in plan.trainings(store) if training.is_ensemble for name in training.scorings]
    score = RunFolder(store.folder(row.key, 0).path).score(name)
    assert score["test/map"] == pytest.approx(Ranking().score(fused, found[0]["targets"]).map, abs=1e-6)


def test_snapshots_are_scored_by_their_features_side_by_side(tmp_path):
    parts = build(base_recipe("digits_retrieval"))
    files, features = [], []
    for number in range(2):
        L.seed_everything(number, verbose=False)
        module = build(base_recipe("digits_retrieval")).module
        files.append(tmp_path / f"{number}.safetensors")
        save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, files[-1])
        features.append(score_weights(parts, files[-1:], Inference()).predictions["features"])
    together = score_weights(parts, files, Inference()).predictions["features"]
    expected = np.concatenate([each / np.linalg.norm(each, axis=1, keepdims=True) for each in features], axis=1)
    np.testing.assert_allclose(together, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "settings, text",
    [
        (
            {"data.identities_per_batch": 3},
            "takes 3 identities a step, but there are 2",
        ),
        (
            {"trainer.devices": 2},
            r"on 2 process\(es\) takes 4 identities a step, but there are 2\. Set it to at most 1",
        ),
        ({"data.images_per_identity": 3}, "2 identities have fewer than images_per_identity=3 images.*: 0002, 0007"),
        (
            {"model.network.num_classes": 751},
            "num_classes is 751, but the data has 2 identities to train on: .*Set it to 2",
        ),
    ],
)
def test_a_plan_says_why_its_data_cannot_be_trained_on(data_dir, monkeypatch, settings, text):
    monkeypatch.setenv("TRICKSTACK_DATA", str(data_dir))
    plan = load_plan(find_study(MARKET), settings={"model.init": None, **FEW_PERSONS, **settings})
    for row in plan.rows:
        (problem,) = plan.misfits[row.index]
        assert re.search(text, problem)


@pytest.mark.parametrize(
    ("identities", "images", "devices", "says"),
    [(2, 1, 1, True), (1, 2, 1, True), (1, 2, 2, False), (2, 2, 1, False)],
)
def test_a_plan_says_where_triplets_have_nothing_to_compare(tmp_path, identities, images, devices, says):
    batches = {"data.identities_per_batch": identities, "data.images_per_identity": images}
    study = {"task": "retrieval", "base": "digits_retrieval", "metric": "test/map", "tricks": ["triplet_loss"]}
    plan = load_plan(write_study(tmp_path, **study, set={**batches, "trainer.devices": devices}))
    assert 0 not in plan.misfits
    text = f"identities_per_batch={identities} and images_per_identity={images} leave BatchHardTripletLoss nothing"
    assert [text in problem for problem in plan.misfits.get(1, ())] == [True] * says


def test_a_plan_says_why_its_data_cannot_be_scored_with_all_that_is_wrong(tmp_path):
    for folder, person in (("bounding_box_train", 2), ("query", 2), ("bounding_box_test", 5)):
        name = f"{person:04}_c1s1_000001_01.jpg"
        write_image(tmp_path / "Market-1501-v15.09.15" / folder / name, smooth_pixels(8, 4, seed=person))
    place = {"data.data_dir": str(tmp_path)}
    plan = load_plan(find_study(MARKET), settings={"model.init": None, **FEW_PERSONS, **place})
    (apart, matches, batches, classes) = plan.misfits[0]
    assert "1 identity is both in training or validation and in the test: '0002'" in apart
    assert "none of 1 test queries has an image of its identity in the gallery of 1" in matches
    assert "takes 2 identities a step, but there are 1" in batches and "1 identity has fewer than" in batches
    assert "num_classes is 2, but the data has 1 identity to train on" in classes


def test_the_split_of_every_seed_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("TRICKSTACK_DATA", str(tmp_path))
    for person in range(4):
        for number in range(1 if person == 0 else 2):
            write_image(tmp_path / "ids" / "train" / f"{person}" / f"{number}.png", smooth_pixels(8, 8, seed=person))
    for number in range(2):
        write_image(tmp_path / "ids" / "test" / "9" / f"{number}.png", smooth_pixels(8, 8, seed=number))
    data = {"folder": "ids", "train": ["train"], "test": ["test"], "val_size": 1, "channels": 3, "image_size": 8}
    batches = {"identities_per_batch": 2, "images_per_identity": 2}
    changes = {
        **{f"data.{name}": value for name, value in {**data, **batches}.items()},
        "model.network.num_classes": 3,
        "model.network.in_channels": 3,
    }
    study = {"task": "retrieval", "base": "omniglot", "metric": "test/map", "tricks": ["bnneck"]}
    path = write_study(tmp_path, **study, seeds=8, set=changes, vary=["init", "order", "split"])
    texts = " ".join(load_plan(path).misfits[0])
    assert "1 identity has fewer than images_per_identity=2 images, the fewest 1: train/0" in texts
    assert "none of 1 val queries" in texts  # where the one with one image is for validation
