"""What holds for every trick: one table drives the tests, and a trick that is not in it is found."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
import yaml

from ablations.errors import RecipeError
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
    Case("cosine_restarts", {"model.schedule": "CosineCycles"}, {"cycles": 2}),
    Case("one_cycle", {"model.schedule": "OneCycle"}),
    Case("reduce_on_plateau", {"model.schedule": "ReduceOnPlateau"}),
    Case("exponential_decay", {"model.schedule": "ExponentialDecay"}),
    Case("inverse_time_decay", {"model.schedule": "InverseTimeDecay"}),
    Case("linear_lr_scaling", {"data.batch_size": 50, "model.optimizer.lr": 0.2}, {"factor": 2}),
    Case("adam", {"model.optimizer": "Adam"}),
    Case("radam", {"model.optimizer": "RAdam"}),
    Case("rmsprop", {"model.optimizer": "RMSprop"}),
    Case("nesterov", {"model.optimizer.nesterov": True}),
    Case("gradient_clipping", {"trainer.gradient_clip_val": 1.0, "trainer.gradient_clip_algorithm": "norm"}),
    Case("gradient_accumulation", {"trainer.accumulate_grad_batches": 2}, {"batches": 2}),
    Case("mixed_precision", {"trainer.precision": "bf16-mixed"}),
    Case("large_batch", {"data.batch_size": 50}, {"factor": 2}),
    Case("small_batch", {"data.batch_size": 5}),
    Case("weight_decay", {"model.optimizer.weight_decay": 5e-4}),
    Case("xavier_init", {"model.init": "XavierInitialization"}),
    Case("he_init", {"model.init": "HeInitialization"}),
    Case("orthogonal_init", {"model.init": "OrthogonalInitialization"}),
    Case("sync_batchnorm", {"trainer.sync_batchnorm": True}),
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
    assert trainer.global_step == 4 // arguments["accumulate_grad_batches"]
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
    "model.init": None,
    "data.transforms": [],
    "data.mixes": [],
    "data.normalize": False,
    "inference.views": None,
    "inference.weights": "last",
    "trainer.callbacks": None,
    "trainer.gradient_clip_val": None,
    "trainer.gradient_clip_algorithm": None,
    "trainer.sync_batchnorm": False,
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
        is_known = path in {*OFF, *case.before, *SWAPPED, *STRENGTHS}
        assert is_known or (is_component and path.rpartition(".")[0] in OFF)


SWAPPED = {"model.schedule", "model.optimizer"}
"""Components of row 0 that are checked by class, since they are never absent."""

STRENGTHS = {"model.optimizer.lr", "model.optimizer.weight_decay", "data.batch_size"}
"""Numbers that row 0 cannot do without, so that no value of theirs is off."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adam", partial(torch.optim.Adam, lr=1e-3)),
        ("adamw", partial(torch.optim.AdamW, lr=1e-3, weight_decay=1e-2)),
        ("radam", partial(torch.optim.RAdam, lr=1e-3)),
        ("rmsprop", partial(torch.optim.RMSprop, lr=1e-3)),
        ("nesterov", partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-3, nesterov=True)),
        ("weight_decay", partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4)),
    ],
)
def test_an_optimizer_is_torch_s_own_with_its_defaults(name, expected):
    _, after = apply(next(case for case in CASES if case.name == name))
    weights = [torch.nn.Parameter(torch.zeros(1))]
    found, wanted = build(after).module.optimizer(weights), expected(weights)
    assert type(found) is type(wanted)
    assert found.defaults == wanted.defaults


def edited(name, base=None, **arguments):
    """Return the digits base, or another recipe, with a trick."""
    recipe = Recipe(base or digits_recipe())
    tricks()[name].apply(recipe, arguments)
    return recipe.config


def test_a_strength_may_follow_another_optimizer():
    recipe = Recipe(edited("weight_decay", edited("adamw", lr=0.01), strength=0.3))
    assert recipe.get("model.optimizer") == {
        "class_path": "torch.optim.AdamW",
        "init_args": {"lr": 0.01, "weight_decay": 0.3},
    }
    assert Recipe(edited("linear_lr_scaling", recipe.config, factor=4)).get("model.optimizer.lr") == 0.04


@pytest.mark.parametrize("name, argument", [("small_batch", {"divisor": 4}), ("large_batch", {"factor": 1.5})])
def test_a_batch_size_that_is_not_whole_is_refused(name, argument):
    with pytest.raises(RecipeError, match=r"data\.batch_size is 25, .* not a positive whole number"):
        edited(name, **argument)


@pytest.mark.parametrize("settings", [{"momentum": 0.0}, {"dampening": 0.1}])
def test_nesterov_without_momentum_is_refused(settings):
    base = digits_recipe(**{f"model__optimizer__{key}": value for key, value in settings.items()})
    with pytest.raises(RecipeError, match="needs a momentum above 0 and no dampening"):
        edited("nesterov", base)


def test_nesterov_is_for_sgd_alone():
    with pytest.raises(RecipeError, match="nesterov"):
        edited("nesterov", edited("adam"))


def train(recipe, *callbacks, **settings):
    """Return the module of a recipe after training from seed 0 without a network's normalization."""
    L.seed_everything(0)
    parts = build(recipe)
    for name in ("bn1", "layer1", "layer2", "layer3"):
        for module in parts.module.network.get_submodule(name).modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.forward = lambda images: images
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(**{**parts.trainer_arguments, **quiet, "callbacks": list(callbacks), **settings})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    return parts.module


def weights(module):
    """Return all weights of a module in a row."""
    return torch.cat([parameter.detach().flatten() for parameter in module.network.parameters()])


def test_accumulated_batches_are_one_large_batch_where_nothing_normalizes():
    base = digits_recipe(model__optimizer__lr=0.01)
    plain = train(base)
    accumulated = train(edited("gradient_accumulation", base, batches=2))
    large = train(edited("large_batch", base, factor=2))
    torch.testing.assert_close(weights(accumulated), weights(large), rtol=1e-4, atol=1e-6)
    assert (weights(accumulated) - weights(plain)).abs().max() > 1e-4


class GradientNorms(L.Callback):
    """Records the norm of the gradient of all weights, as each step uses it."""

    def __init__(self):
        self.norms = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        self.norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())


def test_a_clipped_gradient_has_the_norm_and_a_short_one_stays():
    base, free, clipped, loose = digits_recipe(), GradientNorms(), GradientNorms(), GradientNorms()
    train(base, free, max_steps=1)
    train(edited("gradient_clipping", base, max_norm=free.norms[0] / 2), clipped, max_steps=1)
    train(edited("gradient_clipping", base, max_norm=free.norms[0] * 2), loose, max_steps=1)
    assert clipped.norms[0] == pytest.approx(free.norms[0] / 2, rel=1e-4)
    assert loose.norms[0] == free.norms[0]


def test_mixed_precision_keeps_the_loss_within_its_rounding():
    losses = {}
    for name, recipe in {"full": digits_recipe(), "mixed": edited("mixed_precision")}.items():
        module = train(recipe)
        losses[name] = module.trainer.callback_metrics["train/loss"].item()
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert losses["mixed"] != losses["full"]
    assert losses["mixed"] == pytest.approx(losses["full"], rel=0.02)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cosine_restarts", {"cycles": 3, "min_lr": 0.01}),
        ("one_cycle", {"max_lr_factor": 2.0, "start_fraction": 0.4}),
        ("reduce_on_plateau", {"factor": 0.2, "patience": 7, "monitor": "val/loss", "mode": "min"}),
        ("exponential_decay", {"final_fraction": 0.3}),
        ("inverse_time_decay", {"final_fraction": 0.3}),
    ],
)
def test_the_arguments_of_a_schedule_reach_it(name, arguments):
    assert Recipe(edited(name, **arguments)).get("model.schedule")["init_args"] == arguments
