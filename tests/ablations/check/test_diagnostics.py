"""Each diagnostic names the recipe that is broken in its way, and finds the one beside it in order."""

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ablations.check import DIAGNOSTICS, Diagnostic, Finding, Need, Subject, check, diagnostic
from ablations.check.data import class_balance, duplicates, image_values, label_range
from ablations.check.finding import Seen
from ablations.check.learning import learning_rate, overfit
from ablations.check.network import batch_of_one, independence, output_activation
from ablations.check.start import gradients, initial_loss, untouched_parameters
from ablations.errors import RecipeError
from tests.helpers.recipes import digits_recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*' does not have many workers"),
    pytest.mark.filterwarnings("ignore:invalid value encountered"),
]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def broken(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"tests.ablations.check.broken.{name}", "init_args": arguments}


def with_network(name: str, **arguments: Any) -> dict[str, Any]:
    return digits_recipe(model__network=broken(name, **arguments))


def at_rate(lr: float, epochs: int = 8, name: str = "Plain") -> dict[str, Any]:
    """Return a recipe that learns best at a rate of about 1."""
    return digits_recipe(model__network=broken(name), model__optimizer__lr=lr, trainer__max_epochs=epochs)


def with_data(name: str, **arguments: Any) -> dict[str, Any]:
    recipe = digits_recipe()
    recipe["data"] = broken(name, **arguments)
    return recipe


def of_class(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the recipe with another class of module that takes the same arguments."""
    recipe["model"]["class_path"] = f"tests.ablations.check.broken.{name}"
    return recipe


ERASES = "With one image batch normalization erases"
SUMMED = {"class_path": "torch.nn.CrossEntropyLoss", "init_args": {"reduction": "sum"}}

Case = tuple[Diagnostic, dict[str, Any], str, str]
CASES: dict[str, Case] = {
    "rare class": (class_balance, with_data("Rare", left=1), "1 to 10 training images a class", "10 times"),
    "no class": (class_balance, with_data("Rare", left=0), "none in [3]", "never seen is never learnt"),
    "leak": (duplicates, with_data("Leaky"), "8 images in two splits: 1 in train and val, 7 in train and test", "."),
    "0 to 255": (image_values, with_data("Raw"), "mean 7", "Scale the values to [0, 1]"),
    "wrong reshape": (independence, with_network("Transposed"), "others by", "reshape, view, transpose, softmax"),
    "softmax of columns": (independence, with_network("Plain", ending="columns"), "others", "dimension 0"),
    "no batch": (independence, with_network("Flat"), "4 images give scores (1, 10)", "must be (4, classes)"),
    "blind": (independence, with_network("Blind"), "its own scores by 0", "do not depend on the images"),
    "loud": (initial_loss, with_network("Loud"), "ln 10 = 2.303", "initial weights of the last layer"),
    "summed": (initial_loss, digits_recipe(model__loss=SUMMED), "ln 10 = 2.303", "the loss's reduction"),
    "unused": (untouched_parameters, with_network("Unused"), "2 of 6 tensors", "unused.weight, network.cut.weight"),
    "forgotten": (untouched_parameters, of_class(with_network("Plain"), "Forgetful"), "3 in no group", "1.bias"),
    "softmax": (output_activation, with_network("Plain", ending="softmax"), "as of a softmax", "Remove the softmax"),
    "sigmoid": (output_activation, with_network("Plain", ending="sigmoid"), "as of a sigmoid", "Remove the sigmoid"),
    "relu": (output_activation, with_network("Plain", ending="relu"), "as of a ReLU", "Remove the ReLU"),
    "batches of one": (batch_of_one, digits_recipe(data__batch_size=1), "batch 1, at least 4", ERASES),
    "last batch of one": (batch_of_one, with_data("LastOfOne"), "batch 1, at least 4", ERASES),
    "learns nothing": (overfit, with_network("Blind"), "in 300 steps on 25 images", "labels belong to their images"),
    "infinite": (gradients, with_network("RootOfNothing"), "gradient is nan in step 0", "a log, root or division of 0"),
    "exploding": (gradients, with_network("Exploding"), "norms from", "Gradients explode: over 1000"),
    "too low": (learning_rate, at_rate(1e-4), "at 0.0001", "is too low: try 0.001"),
    "low": (learning_rate, at_rate(0.1), "at 0.1", "is too low: try 1,"),
    "no rate": (learning_rate, at_rate(1.0, name="Blind"), "at 1,", "No rate learns from the first loss of 2.3"),
    "too high": (learning_rate, at_rate(10.0), "at 10,", "is too high: lower it"),
}  # fmt: skip


@pytest.mark.parametrize(("look", "recipe", "saw", "advice"), CASES.values(), ids=CASES.keys())
def test_a_recipe_that_is_broken_in_one_way_is_named(
    look: Diagnostic, recipe: dict[str, Any], saw: str, advice: str
) -> None:
    found = look(Subject(recipe))
    assert found.verdict == "look here"
    assert saw in found.saw
    assert advice in found.advice


def test_every_diagnostic_has_a_broken_recipe() -> None:
    assert {case[0] for case in CASES.values()} | {label_range} == set(DIAGNOSTICS)


MIXUP = {"class_path": "torchvision.transforms.v2.MixUp", "init_args": {"alpha": 1.0, "num_classes": 10}}
CROP = {"class_path": "datamodules.BatchRandomCrop", "init_args": {"padding": 2}}
WARMUP = {"class_path": "callbacks.LinearWarmup", "init_args": {"epochs": 1}}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model__network__zero_gamma": True, "trainer__callbacks": [WARMUP], "model__network__dropout": 0.5},
        {"data__mixes": [MIXUP], "data__transforms": [CROP], "data__normalize": True, "model__network__width": 8},
        {
            "trainer__accumulate_grad_batches": 2,
            "trainer__precision": "bf16-mixed",
            "model__loss__label_smoothing": 0.3,
        },
    ],
    ids=["base", "zero gamma, dropout, warm-up", "augmentation", "smoothing, accumulation, bf16"],
)
def test_tricks_do_not_look_like_faults(settings: dict[str, Any]) -> None:
    settings = {"model__network__width": 16, **settings}
    findings = list(check(digits_recipe(**settings)))
    assert [found for found in findings if found.verdict != "ok" and found.name != "learning rate"] == []
    assert len(findings) == len(DIAGNOSTICS)


def test_a_rate_between_too_low_and_too_high_is_in_order() -> None:
    assert learning_rate(Subject(at_rate(1.0))).verdict == "ok"


def test_a_run_too_short_says_nothing_about_its_rate() -> None:
    found = learning_rate(Subject(at_rate(1.0, epochs=4)))
    assert found == Finding("learning rate", "not run", "needs 20 steps, and the run has 16")


def test_a_long_warm_up_says_nothing_about_the_rate() -> None:
    recipe = at_rate(1.0, epochs=100)
    recipe["trainer"]["callbacks"] = [{"class_path": "callbacks.LinearWarmup", "init_args": {"epochs": 99}}]
    found = learning_rate(Subject(recipe))
    assert found == Finding("learning rate", "not run", "the rate comes up to 0.25 of 1 in 100 steps")


def test_loggers_checkpoints_and_strategies_of_the_recipe_stay_away(tmp_path: Path) -> None:
    def lightning(name: str, **arguments: Any) -> dict[str, Any]:
        return {"class_path": f"lightning.pytorch.{name}", "init_args": arguments}

    callbacks = [
        lightning("callbacks.ModelCheckpoint", dirpath=str(tmp_path)),
        lightning("callbacks.LearningRateMonitor"),
        lightning("callbacks.EarlyStopping", monitor="val/loss"),
    ]
    recipe = digits_recipe(trainer__callbacks=callbacks)
    recipe["trainer"]["logger"] = lightning("loggers.CSVLogger", save_dir=str(tmp_path))
    recipe["trainer"]["strategy"] = lightning("strategies.DDPStrategy")
    recipe["trainer"]["devices"] = 2
    assert gradients(Subject(recipe)).verdict == "ok"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("look", [overfit, gradients], ids=lambda look: look.name)
def test_the_output_is_the_same_each_time(look: Diagnostic) -> None:
    assert look(Subject(with_network("Plain"))) == look(Subject(with_network("Plain")))


@pytest.mark.parametrize(("labels", "verdict"), [((0, 9), "ok"), ((1, 10), "look here"), ((-1, 8), "look here")])
def test_labels_out_of_range_are_named(labels: tuple[int, int], verdict: str) -> None:
    sets = {"train": SimpleNamespace(targets=torch.arange(labels[0], labels[1] + 1))}
    subject: Any = SimpleNamespace(parts=SimpleNamespace(datamodule=SimpleNamespace(sets=sets, num_classes=10)))
    found = label_range(subject)
    assert found.verdict == verdict
    assert found.saw.startswith(f"labels {labels[0]} to {labels[1]}, 10 classes")


def test_statistics_of_one_value_stop_the_training_and_the_check_says_so() -> None:
    recipe = with_network("NormalizedFeatures")
    recipe["data"]["init_args"]["batch_size"] = 1
    found = batch_of_one(Subject(recipe))
    assert "With one image training stops there, and batch normalization" in found.advice


def test_an_error_of_the_users_classes_is_told_once() -> None:
    findings = list(check(digits_recipe(model__network__num_classes=7)))
    told = [found for found in findings if found.verdict == "look here"]
    assert [found.saw for found in told] == [
        "stopped by ValueError: LitClassifier: the network has 7 outputs, but the datamodule has 10 classes. "
        "Set the network's num_classes to 10."
    ]
    assert Finding("gradients", "not run", "stopped by the same") in findings


def test_what_a_class_refuses_is_the_users_mistake() -> None:
    with pytest.raises(RecipeError, match="much"):
        list(check(digits_recipe(model__optimizer__momentum="much")))


def test_other_tasks_run_what_makes_sense_for_them() -> None:
    recipe = digits_recipe()
    recipe["model"] = broken("OtherTask")
    verdicts = {found.name: (found.verdict, found.saw) for found in check(recipe)}
    assert verdicts["label range"][0] == verdicts["gradients"][0] == verdicts["parameters without gradient"][0] == "ok"
    assert verdicts["loss at the start"] == ("not run", "needs LitClassifier")
    assert verdicts["learning rate"] == ("not run", "needs a number at model.optimizer.lr")


def test_a_diagnostic_without_what_it_needs_is_not_run() -> None:
    @diagnostic("luck", Need("a horseshoe", lambda subject: False))
    def luck(subject: Subject) -> Seen:
        raise AssertionError

    assert luck(Subject(digits_recipe())) == Finding("luck", "not run", "needs a horseshoe")
