import csv
import json
import logging
import math
import shutil

import lightning as L
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ablations.keys import scoring_of
from ablations.parsing import resolve
from ablations.plan import Scoring, Training
from ablations.scoring import score_weights
from ablations.store import RunFolder
from ablations.training import _build, run_and_record, run_training
from lit_modules import LitClassifier
from lit_modules.inference import Inference, Views
from tests.helpers.recipes import digits_recipe

PLAIN = {"last": Scoring("last", {"weights": "last", "views": None})}
SHIFTED = {
    "last-shifted": Scoring(
        "last",
        {
            "weights": "last",
            "views": {"class_path": "lit_modules.inference.CornerCropViews", "init_args": {"padding": 1}},
        },
    )
}


def training(folder, seed=0, scorings=PLAIN, **settings):
    return Training("key", seed, digits_recipe(**settings), dict(scorings), folder, checkpoint_seconds=0)


def weights(folder):
    return load_file(RunFolder(folder).weights("last"))


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run_training(training(folder, scorings={**PLAIN, **SHIFTED}))
    return folder


def test_a_training_leaves_everything_in_its_folder(finished):
    folder = RunFolder(finished)
    result = folder.result()
    assert result is not None
    assert result["seed"] == 0
    assert result["parameters"] == sum(t.numel() for name, t in weights(finished).items() if is_parameter(name))
    assert folder.status()["state"] == "done"
    with folder.metrics.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[-1]["train/loss"]) > 0
    assert not folder.checkpoint.exists()
    assert {path.name for path in finished.iterdir()} == {
        "lease-1", "lock", "metrics.csv", "predictions", "recipe.yaml", "result.json", "scores", "status.json",
        "weights",
    }  # fmt: skip


def is_parameter(name):
    return not name.endswith(("running_mean", "running_var", "num_batches_tracked"))


@pytest.mark.parametrize("inference", ["last", "last-shifted"])
def test_the_stored_accuracy_is_that_of_the_stored_predictions(finished, inference):
    predictions = np.load(RunFolder(finished).predictions(inference))
    accuracy = (predictions["probabilities"].argmax(1) == predictions["targets"]).mean()
    assert RunFolder(finished).score(inference)["test/accuracy"] == pytest.approx(accuracy)


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(finished, tmp_path):
    run_training(training(tmp_path / "again"))
    run_training(training(tmp_path / "other", seed=1))
    assert_same_weights(weights(tmp_path / "again"), weights(finished))
    assert not torch.equal(
        weights(tmp_path / "other")["network.conv1.weight"], weights(finished)["network.conv1.weight"]
    )


def test_a_score_that_is_asked_for_later_comes_from_the_stored_weights(finished, tmp_path, monkeypatch):
    run_training(training(tmp_path))
    monkeypatch.setattr(L.Trainer, "fit", lambda *arguments, **names: pytest.fail("it trains again"))
    run_training(training(tmp_path, scorings={**PLAIN, **SHIFTED}))
    assert RunFolder(tmp_path).score("last-shifted") == RunFolder(finished).score("last-shifted")


def times(folder):
    """Return when each file that holds something of a training was written."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(("lease-", "lock"))]
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_finished_training_is_not_touched(finished):
    before = times(finished)
    run_training(training(finished, scorings={**PLAIN, **SHIFTED}))
    assert times(finished) == before


class StopAt(L.Callback):
    """Raises at the start of an epoch, as a process that is killed there would end."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            raise RuntimeError("stopped")


def interrupted(folder, epoch, **settings):
    recipe = digits_recipe(**settings)
    recipe["trainer"]["callbacks"] = [
        *(recipe["trainer"]["callbacks"] or []),
        {"class_path": f"{__name__}.StopAt", "init_args": {"epoch": epoch}},
    ]
    with pytest.raises(RuntimeError, match="stopped"):
        run_training(Training("key", 0, recipe, dict(PLAIN), folder, checkpoint_seconds=0))


LONG = {
    "trainer__max_epochs": 4,
    "model__network__dropout": 0.5,
    "model__schedule": {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"eta_min": 0.0}},
    "trainer__callbacks": [{"class_path": "callbacks.LinearWarmup", "init_args": {"epochs": 1.5}}],
    "data__transforms": [{"class_path": "datamodules.BatchRandomCrop", "init_args": {"padding": 1}}],
    "data__mixes": [
        {
            "class_path": "torchvision.transforms.v2.MixUp",
            "init_args": {"alpha": 0.2, "num_classes": 10, "labels_getter": "default"},
        }
    ],
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run_training(training(folder, **LONG))
    return folder


@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_an_interrupted_training_ends_as_one_that_never_was(undisturbed, tmp_path, epoch, caplog):
    interrupted(tmp_path, epoch, **LONG)
    assert RunFolder(tmp_path).checkpoint.exists() == (epoch > 0)
    with caplog.at_level(logging.WARNING):
        run_training(training(tmp_path, **LONG))
    assert ("going on from" in caplog.text) == (epoch > 0)
    assert_same_weights(weights(tmp_path), weights(undisturbed))
    assert RunFolder(tmp_path).metrics.read_text() == RunFolder(undisturbed).metrics.read_text()
    assert RunFolder(tmp_path).score("last") == RunFolder(undisturbed).score("last")


def test_a_checkpoint_that_cannot_be_read_starts_the_training_anew_and_says_so(undisturbed, tmp_path, caplog):
    interrupted(tmp_path, 2, **LONG)
    checkpoint = RunFolder(tmp_path).checkpoint
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING):
        run_training(training(tmp_path, **LONG))
    assert "cannot be read" in caplog.text
    assert_same_weights(weights(tmp_path), weights(undisturbed))


@pytest.mark.parametrize("name", ["result.json", "scores/last.json", "weights/last.safetensors"])
def test_a_corrupt_file_is_made_again_and_said_so(finished, tmp_path, name, caplog):
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy" / name).write_bytes(b"{")
    if name.startswith("weights"):
        (tmp_path / "copy" / "scores" / "last.json").unlink()
    with caplog.at_level(logging.WARNING):
        run_training(training(tmp_path / "copy"))
    assert f"{name} cannot be read" in caplog.text
    assert RunFolder(tmp_path / "copy").score("last") == RunFolder(finished).score("last")
    assert RunFolder(tmp_path / "copy").result() is not None


class NoViews(Views):
    def forward(self, images):
        raise ValueError("there are none")


def test_a_score_that_fails_keeps_neither_the_training_nor_other_scores_back(tmp_path, monkeypatch):
    views = {"class_path": f"{__name__}.NoViews"}
    broken = {"last-none": Scoring("last", {"weights": "last", "views": views})}
    asked = training(tmp_path, scorings={**broken, **PLAIN})
    with pytest.raises(SystemExit):
        run_and_record(asked)
    folder = RunFolder(tmp_path)
    assert folder.status()["reason"] == "it is trained, but scoring it failed (last-none): ValueError: there are none"
    assert folder.result() is not None
    assert not asked.is_done()
    assert folder.missing(asked.scorings) == ["last-none"]
    monkeypatch.setattr(L.Trainer, "fit", lambda *arguments, **names: pytest.fail("it trains again"))
    monkeypatch.setattr(NoViews, "forward", lambda self, images: [images])
    run_and_record(asked)
    assert folder.score("last-none") == folder.score("last")


def test_a_test_whose_predictions_are_no_numbers_is_no_score(tmp_path):
    huge = training(tmp_path, trainer__max_epochs=1, trainer__max_steps=1, model__optimizer__lr=1e38)
    with pytest.raises(SystemExit):  # after one step with weights that are huge, and finite
        run_and_record(huge)
    folder = RunFolder(tmp_path)
    assert folder.status()["reason"] == "it is trained, but scoring it failed (last): test/loss is nan"
    assert folder.score("last") is None


class NoNumbers(Views):
    def forward(self, images):
        return [images, images * math.nan]


def test_probabilities_that_are_no_numbers_are_no_score(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(LitClassifier, "on_test_epoch_end", _without_loss(LitClassifier.on_test_epoch_end))
    shutil.copytree(finished, tmp_path / "copy")
    views = {"views": {"class_path": f"{__name__}.NoNumbers"}, "weights": "last"}
    asked = training(tmp_path / "copy", scorings={"last-none": Scoring("last", views)})
    with pytest.raises(SystemExit):
        run_and_record(asked)
    assert RunFolder(tmp_path / "copy").status()["reason"] == (
        "it is trained, but scoring it failed (last-none): the probabilities that it predicts are not all finite"
    )


def _without_loss(end):
    """Let a classifier log its test without the loss, as a module of the user's own may."""

    def on_test_epoch_end(self):
        log_dict = self.log_dict
        self.log_dict = lambda values: log_dict({k: v for k, v in values.items() if k != "test/loss"})
        end(self)

    return on_test_epoch_end


def test_a_score_of_an_earlier_version_is_made_again_from_the_weights(finished, tmp_path, monkeypatch, caplog):
    shutil.copytree(finished, tmp_path / "copy")
    path = tmp_path / "copy/scores/last.json"
    old = json.loads(path.read_text())
    path.write_text(json.dumps({"metrics": {"test/loss": 7.0}, **{name: old[name] for name in ("weights", "section")}}))
    assert RunFolder(tmp_path / "copy").score("last") is None
    assert not training(tmp_path / "copy").is_done()
    monkeypatch.setattr(L.Trainer, "fit", lambda *arguments, **names: pytest.fail("it trains again"))
    with caplog.at_level(logging.WARNING):
        run_training(training(tmp_path / "copy"))
    assert "cannot be read" not in caplog.text
    assert RunFolder(tmp_path / "copy").score("last") == RunFolder(finished).score("last")


def test_a_training_that_diverges_is_recorded_with_its_epoch(tmp_path):
    with pytest.raises(SystemExit):
        run_and_record(training(tmp_path, model__optimizer__lr=1e20))
    status = RunFolder(tmp_path).status()
    assert status["state"] == "failed"
    assert "diverged" in status["reason"]
    assert RunFolder(tmp_path).result() is None


def test_scoring_counts_the_operations_of_one_image(finished):
    parts = _build(training(finished))
    plain = score_weights(parts, [RunFolder(finished).weights("last")], Inference())
    network = parts.module.network
    counted = 0

    def count(module, inputs, output):
        nonlocal counted
        weight = module.weight
        counted += 2 * weight[0].numel() * output[0].numel()

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
    ]
    network(torch.zeros(1, 1, 8, 8))
    for hook in hooks:
        hook.remove()
    assert plain.costs["flops_per_image"] == counted


def kept(folder, callback, weights, **init_args):
    """Train with a callback that keeps weights, score them, and return the folder and the name of weights and score."""
    recipe = digits_recipe(trainer__max_epochs=4, trainer__check_val_every_n_epoch=1)
    recipe["trainer"]["callbacks"] = [{"class_path": f"callbacks.{callback}", "init_args": init_args}]
    recipe["inference"]["weights"] = weights
    resolved = resolve(recipe)
    name, scoring = scoring_of(resolved)
    run_training(Training("key", 0, resolved, {**PLAIN, name: scoring}, folder, checkpoint_seconds=0))
    return RunFolder(folder), name


def test_a_kept_average_is_stored_and_scored_beside_the_last_weights(tmp_path):
    plain = tmp_path / "plain"
    run_training(training(plain, trainer__max_epochs=4, trainer__check_val_every_n_epoch=1))
    folder, name = kept(tmp_path / "ema", "EMA", "ema", validate_with_average=False)
    assert_same_weights(load_file(folder.weights("last")), weights(plain))
    average = load_file(folder.weights(name))
    assert not torch.equal(average["network.conv1.weight"], weights(plain)["network.conv1.weight"])
    again = score_weights(_build(training(plain)), [folder.weights(name)], Inference(weights="ema"))
    assert folder.score(name) == again.metrics


def test_averages_of_two_studies_do_not_take_each_others_place(tmp_path):
    folder, slow = kept(tmp_path, "EMA", "ema", decay=0.9, warmup=False, validate_with_average=False)
    slow_score = folder.score(slow)
    folder, fast = kept(tmp_path, "EMA", "ema", decay=0.1, warmup=False, validate_with_average=False)
    assert slow != fast
    assert folder.score(slow) == slow_score != folder.score(fast)
    assert folder.weights(slow).exists()


def test_a_snapshot_ensemble_averages_its_members_and_keeps_their_scores(tmp_path):
    folder, name = kept(tmp_path, "SnapshotEnsemble", "snapshots", cycles=2)
    assert folder.weight_files(name) == [folder.weights(name, 1), folder.weights(name, 2)]
    ensemble = np.load(folder.predictions(name))["probabilities"]
    members = [np.load(folder.predictions(f"{name}-member-{member}"))["probabilities"] for member in (1, 2)]
    np.testing.assert_allclose(ensemble, np.mean(members, axis=0), atol=1e-6)
    assert folder.score(f"{name}-member-1") is not None
    assert_same_weights(load_file(folder.weights(name, 2)), load_file(folder.weights("last")))


def test_weights_that_were_not_kept_are_trained_again(tmp_path, caplog):
    run_training(training(tmp_path, trainer__max_epochs=4, trainer__check_val_every_n_epoch=1))
    before = weights(tmp_path)
    with caplog.at_level(logging.WARNING):
        folder, name = kept(tmp_path, "EMA", "ema", validate_with_average=False)
    assert f"without keeping the weights {name!r}; it is done again" in caplog.text
    assert_same_weights(load_file(folder.weights("last")), before)
    assert folder.score(name) is not None
