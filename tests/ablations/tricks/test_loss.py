"""Tricks on the loss: how they stack, and what cannot be."""

from pathlib import Path

import pytest
import torch
import yaml

from ablations.errors import RecipeError
from ablations.parsing import build, resolve
from ablations.planner import load_plan
from ablations.recipe import Recipe
from lit_modules.losses import OHEM, AMSoftmax, FocalLoss
from tests.ablations.tricks.case import edited, train
from tests.ablations.tricks.cases.loss import store_teacher
from tests.helpers.recipes import digits_recipe, write_study

STACKS = [
    ["label_smoothing", "focal_loss", "ohem"],
    ["ohem", "focal_loss", "label_smoothing"],
    ["focal_loss", "ohem", "label_smoothing"],
    ["ohem", "label_smoothing", "focal_loss"],
]


@pytest.mark.parametrize("names", STACKS, ids=" ".join)
def test_smoothing_focus_and_mining_are_the_same_in_any_order(names, tmp_path):
    plan = load_plan(write_study(tmp_path, tricks=names))
    loss = build(plan.rows[-1].recipe).module.loss
    assert isinstance(loss, OHEM)
    assert isinstance(loss.loss, FocalLoss)
    assert (loss.loss.label_smoothing, loss.loss.reduction) == (0.1, "none")


def test_a_margin_stacks_with_a_loss_in_either_order(tmp_path):
    for names in (["am_softmax", "label_smoothing"], ["label_smoothing", "am_softmax"]):
        plan = load_plan(write_study(tmp_path, tricks=names))
        module = build(plan.rows[-1].recipe).module
        assert isinstance(module.network.fc, AMSoftmax)
        assert module.loss.label_smoothing == 0.1


@pytest.mark.parametrize("name", ["focal_loss", "class_weighted_loss", "mse_loss", "mae_loss", "binary_cross_entropy"])
def test_a_loss_keeps_the_smoothing_that_was_set(name):
    assert Recipe(edited(name, edited("label_smoothing", epsilon=0.3))).get("model.loss.label_smoothing") == 0.3


def test_two_losses_are_refused():
    with pytest.raises(RecipeError, match=r"mse_loss: model\.loss\.loss is FocalLoss, and only CrossEntropyLoss can"):
        edited("mse_loss", edited("ohem", edited("focal_loss")))


@pytest.mark.parametrize("name", ["hinge_loss", "f_beta_loss", "lovasz_loss"])
def test_a_loss_without_smoothing_is_refused_after_it(name):
    with pytest.raises(RecipeError, match=rf"{name}: it has no label smoothing, which model\.loss has"):
        edited(name, edited("label_smoothing"))


@pytest.mark.parametrize("name", ["f_beta_loss", "lovasz_loss"])
def test_a_loss_of_the_whole_batch_cannot_be_mined(name):
    with pytest.raises(RecipeError, match="must tell the samples of a batch apart"):
        edited(name, edited("ohem"))
    with pytest.raises(RecipeError, match=r"ohem: model\.loss is .* which cannot tell the samples of a batch apart"):
        edited("ohem", edited(name))


@pytest.mark.parametrize("name", ["hinge_loss", "lovasz_loss", "am_softmax", "arc_face", "large_margin_softmax"])
def test_what_needs_one_label_an_image_is_refused_after_mixup(name):
    with pytest.raises(RecipeError, match=rf"{name}: data\.mixes has MixUp, and the loss needs one label an image"):
        edited(name, edited("mixup"))


def test_the_hinge_is_torch_s_multi_class_margin():
    loss = build(resolve(edited("hinge_loss", margin=0.5, p=2))).module.loss
    expected = torch.nn.MultiMarginLoss(p=2, margin=0.5)
    scores, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 3])
    assert torch.equal(loss(scores, labels), expected(scores, labels))


def test_lovasz_of_one_label_uses_the_softmax():
    recipe = Recipe(edited("lovasz_loss", multi_label=False))
    assert recipe.get("model.loss")["class_path"] == "lit_modules.losses.LovaszSoftmax"
    assert recipe.get("model.outputs") is None


def test_classes_of_the_digits_base_are_balanced():
    module = train(resolve(edited("class_weighted_loss")), max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    torch.testing.assert_close(module.loss.weight, torch.ones(10))


def test_given_class_weights_count_relative_to_each_other():
    weights = [3.0] + [1.0] * 9
    recipe = resolve(edited("class_weighted_loss", weights=weights))
    module = train(recipe, max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    torch.testing.assert_close(module.loss.weight, torch.tensor(weights) / 1.2)


# --- distillation ---------------------------------------------------------------------------------------------------


def test_the_teacher_s_network_is_the_recipe_s_own_or_the_one_that_is_given():
    base = digits_recipe()
    assert (
        Recipe(edited("distillation", base, teacher="x.pt")).get("model.distillation.network")
        == (base["model"]["init_args"]["network"])
    )
    other = {
        "class_path": "lit_modules.models.ResNet",
        "init_args": {"num_classes": 10, "layers": [2], "block": "basic"},
    }
    recipe = Recipe(resolve(edited("distillation", base, teacher="x.pt", network=other)))
    assert recipe.get("model.distillation.network.layers") == [2]
    assert recipe.get("model.distillation.teacher_weights") == "x.pt"


def test_a_later_change_of_the_network_is_not_one_of_the_teacher(tmp_path):
    tricks = [{"distillation": {"teacher": store_teacher()}}, "resnet_d"]
    study = write_study(tmp_path, tricks=tricks)
    recipe = Recipe(load_plan(study).rows[-1].recipe)
    assert recipe.get("model.network.avg_pool_shortcut") is True
    assert recipe.get("model.distillation.network.avg_pool_shortcut") is False


def test_distillation_goes_with_mixup_and_leaves_the_initial_weights_alone():
    recipe = resolve(edited("mixup", edited("distillation", teacher=store_teacher())))
    module = train(recipe, max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    assert torch.isfinite(module.trainer.callback_metrics["train/loss"])
    torch.manual_seed(0)
    with_teacher = build(recipe).module.state_dict()
    torch.manual_seed(0)
    without = build(digits_recipe()).module.state_dict()
    assert all(torch.equal(with_teacher[name], without[name]) for name in without)


def test_a_recipe_with_every_loss_trick_can_be_written_down():
    config = resolve(edited("arc_face", edited("ohem", edited("distillation", teacher="x.pt"))))
    assert resolve(yaml.safe_load(yaml.safe_dump(config))) == config
    assert not Path("x.pt").exists()
