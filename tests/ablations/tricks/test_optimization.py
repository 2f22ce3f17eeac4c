"""Tricks on the optimizer and the initial weights against torch's own, and against each other."""

from functools import partial

import lightning as L
import pytest
import torch

from ablations.errors import RecipeError
from ablations.parsing import build
from ablations.recipe import Recipe
from tests.ablations.tricks.case import apply, edited, train
from tests.ablations.tricks.cases.optimization import CASES
from tests.helpers.recipes import digits_recipe


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


def train_without_normalization(recipe, *callbacks, **settings):
    """Return the module of a recipe after training from seed 0 without a network's normalization."""
    return train(recipe, WithoutNormalization(), *callbacks, **settings)


class WithoutNormalization(L.Callback):
    """Lets every batch normalization pass its input through."""

    def setup(self, trainer, pl_module, stage):
        for module in pl_module.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.forward = lambda images: images


def weights(module):
    """Return all weights of a module in a row."""
    return torch.cat([parameter.detach().flatten() for parameter in module.network.parameters()])


def test_accumulated_batches_are_one_large_batch_where_nothing_normalizes():
    base = digits_recipe(model__optimizer__lr=0.01)
    plain = train_without_normalization(base)
    accumulated = train_without_normalization(edited("gradient_accumulation", base, batches=2))
    large = train_without_normalization(edited("large_batch", base, factor=2))
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
    train_without_normalization(base, free, max_steps=1)
    train_without_normalization(edited("gradient_clipping", base, max_norm=free.norms[0] / 2), clipped, max_steps=1)
    train_without_normalization(edited("gradient_clipping", base, max_norm=free.norms[0] * 2), loose, max_steps=1)
    assert clipped.norms[0] == pytest.approx(free.norms[0] / 2, rel=1e-4)
    assert loose.norms[0] == free.norms[0]


def test_mixed_precision_keeps_the_loss_within_its_rounding():
    losses = {}
    for name, recipe in {"full": digits_recipe(), "mixed": edited("mixed_precision")}.items():
        module = train_without_normalization(recipe)
        losses[name] = module.trainer.callback_metrics["train/loss"].item()
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert losses["mixed"] != losses["full"]
    assert losses["mixed"] == pytest.approx(losses["full"], rel=0.02)
