"""What holds for every trick: one table drives the tests, and a trick that is not in it is found."""

from dataclasses import dataclass, field
from typing import Any

import lightning as L
import pytest
import torch
import yaml

from ablations.parsing import build, resolve, resolve_edits
from ablations.recipe import Recipe, changes
from ablations.registry import tricks
from ablations.study_file import HERE
from tests.helpers.recipes import digits_recipe


@dataclass(frozen=True)
class Case:
    """A trick, what it must change in the digits base, and what has to be set there first."""

    name: str
    changed: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("step_schedule", {"model.schedule": "FractionalMultiStepLR"}, before={"model.schedule": None}),
    Case("cosine_schedule", {"model.schedule": "CosineAnnealingLR"}),
    Case("linear_warmup", {"trainer.callbacks.LinearWarmup": "LinearWarmup"}, {"epochs": 1}),
    Case("adamw", {"model.optimizer": "AdamW"}),
    Case("no_bias_decay", {"model.parameter_groups.bias_decay": False}),
    Case("zero_gamma", {"model.network.zero_gamma": True}),
    Case("random_crop", {"data.transforms.BatchRandomCrop": "BatchRandomCrop"}, {"padding": 1}),
    Case("random_erasing", {"data.transforms.BatchRandomErasing": "BatchRandomErasing"}),
    Case("mixup", {"data.mixes.MixUp": "MixUp"}),
    Case("label_smoothing", {"model.loss.label_smoothing": 0.1}),
    Case("resnet_d", {"model.network.deep_stem": True, "model.network.avg_pool_shortcut": True}),
    Case("dropout", {"model.network.dropout": 0.2}),
    Case("tta_crops", {"inference.views": "CornerCropViews"}),
    Case("ema", {"trainer.callbacks.EMA": "EMA", "inference.weights": "ema"}),
    Case("swa", {"trainer.callbacks.SWA": "SWA", "inference.weights": "swa"}, {"start_fraction": 0.5}),
    Case(
        "snapshot_ensemble",
        {
            "trainer.callbacks.Snapshots": "Snapshots",
            "inference.weights": "snapshots",
            "model.schedule": "CosineCycles",
        },
        {"cycles": 2},
    ),
    Case("early_stopping", {"trainer.callbacks.BestWeights": "BestWeights", "inference.weights": "best"}),
    Case("tta_flip", {"inference.views": "HorizontalFlipViews"}),
]


def apply(case):
    """Return the recipe before and after a trick."""
    recipe = digits_recipe()
    for path, value in case.before.items():
        edited = Recipe(recipe)
        edited.set(path, value)
        recipe = edited.config
    edited = Recipe(recipe)
    tricks()[case.name].apply(edited, case.arguments)
    return recipe, resolve_edits(recipe, edited.config)


def test_every_trick_is_in_the_table_once():
    assert sorted(case.name for case in CASES) == sorted(tricks())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_trick_changes_what_it_says_and_nothing_else(case):
    before, after = apply(case)
    found = {}
    for change in changes(before, after):
        is_component = isinstance(change.new, dict)
        found[change.path] = change.new["class_path"].rpartition(".")[2] if is_component else change.new
    assert found == case.changed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_trick_trains_two_steps_and_tests(case):
    _, after = apply(case)
    L.seed_everything(0)
    parts = build(after)
    arguments = {**parts.trainer_arguments, "max_epochs": 2, "limit_train_batches": 2, "check_val_every_n_epoch": 1}
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(**{**arguments, **quiet})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    assert trainer.global_step == 4
    parts.module.inference = parts.inference
    (metrics,) = trainer.test(parts.module, datamodule=parts.datamodule, verbose=False)
    assert 0 <= metrics["test/accuracy"] <= 1
    assert torch.isfinite(parts.module.predictions["probabilities"]).all()


@pytest.mark.parametrize("name", sorted(tricks()))
def test_a_trick_names_its_source_and_has_a_sentence(name):
    trick = tricks()[name]
    assert trick.source
    assert trick.text.endswith(".")
    assert trick.text[0].isupper()


def test_resnet_d_moves_the_stride_of_bottlenecks():
    recipe = digits_recipe()
    edited = Recipe(recipe)
    edited.set("model.network.block", "bottleneck")
    tricks()["resnet_d"].apply(edited, {})
    assert edited.get("model.network.stride_in_3x3") is True


OFF = {
    "model.loss.label_smoothing": 0.0,
    "model.network.stride_in_3x3": False,
    "model.network.deep_stem": False,
    "model.network.avg_pool_shortcut": False,
    "model.network.zero_gamma": False,
    "model.network.dropout": 0.0,
    "model.parameter_groups.bias_decay": True,
    "data.transforms": [],
    "data.mixes": [],
    "data.normalize": False,
    "inference.views": None,
    "inference.weights": "last",
    "trainer.callbacks": None,
    "trainer.gradient_clip_val": None,
    "trainer.accumulate_grad_batches": 1,
    "trainer.precision": None,
    "model.optimizer.nesterov": False,
}
"""Every key that a trick, or a library's habit, could have switched on, with the value that is off."""


@pytest.mark.parametrize("path", sorted((HERE / "bases").glob("*.yaml")), ids=lambda path: path.stem)
def test_row_0_is_pure(path):
    recipe = Recipe(resolve(yaml.safe_load(path.read_text())))
    assert {key: recipe.get(key) for key in OFF} == OFF
    assert recipe.get("model.schedule")["class_path"] == "lit_modules.schedules.FractionalMultiStepLR"
    assert recipe.get("model.optimizer")["class_path"] == "torch.optim.SGD"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_trick_switches_on_is_among_what_row_0_switches_off(case):
    for path, value in case.changed.items():
        is_component = isinstance(value, str)
        assert (
            path in OFF or (is_component and path.rpartition(".")[0] in OFF) or path in case.before or path in SWAPPED
        )


SWAPPED = {"model.schedule", "model.optimizer"}
"""Components of row 0 that are checked by class, since they are never absent."""
