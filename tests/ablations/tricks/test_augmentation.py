"""Tricks on the training images; the transforms themselves are tested with datamodules."""

import pytest
import torch

from ablations.errors import RecipeError, StudyError
from ablations.parsing import build, resolve_edits
from ablations.planner import load_plan
from ablations.recipe import Recipe
from ablations.tricks.augmentation import pca_lighting
from tests.ablations.tricks.case import base_recipe, edited
from tests.helpers.recipes import digits_recipe, write_study


def data_after(tmp_path, tricks):
    """Return the data section of a stack's last row."""
    return load_plan(write_study(tmp_path, tricks=tricks)).rows[-1].recipe["data"]["init_args"]


@pytest.mark.parametrize("names", [["mixup", "cutmix"], ["cutmix", "mixup"]])
def test_mixup_and_cutmix_stand_side_by_side(tmp_path, names):
    data = data_after(tmp_path, names)
    assert [mix["class_path"].rpartition(".")[2].lower() for mix in data["mixes"]] == names
    assert data["mix_off_epochs"] == 0


@pytest.mark.parametrize("last", [{"cutmix": {}}, {"cutmix": {"off_epochs": 1}}])
def test_epochs_without_mixes_stay_unless_the_second_mix_asks_for_others(tmp_path, last):
    assert data_after(tmp_path, [{"mixup": {"off_epochs": 1}}, last])["mix_off_epochs"] == 1


def test_mixes_that_disagree_on_the_epochs_without_them_are_refused(tmp_path):
    tricks = [{"mixup": {"off_epochs": 1}}, {"cutmix": {"off_epochs": 2}}]
    with pytest.raises(StudyError, match=r"'cutmix' and 'mixup' both set 'data\.mix_off_epochs'"):
        data_after(tmp_path, tricks)


def test_a_mix_can_run_to_the_end_where_the_base_stops_it():
    recipe = digits_recipe(data__mix_off_epochs=1)
    assert Recipe(edited("cutmix", recipe)).get("data.mix_off_epochs") == 1
    assert Recipe(edited("cutmix", recipe, off_epochs=0)).get("data.mix_off_epochs") == 0


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixed_targets_are_shares_of_the_networks_classes(name):
    before = digits_recipe()
    (mix,) = build(resolve_edits(before, edited(name, before))).datamodule.mixes
    torch.manual_seed(0)
    images, targets = mix(torch.rand(25, 1, 8, 8), torch.arange(25) % 10)
    assert images.shape == (25, 1, 8, 8) and targets.shape == (25, 10)
    assert torch.allclose(targets.sum(1), torch.ones(25))


@pytest.mark.parametrize(("name", "published"), [("mixup", 0.2), ("cutmix", 1.0)])
def test_shares_of_a_mix_are_drawn_from_the_beta_distribution_asked_for(name, published):
    before = digits_recipe()
    for arguments, alpha in (({}, published), ({"alpha": 0.7}, 0.7)):
        (mix,) = build(resolve_edits(before, edited(name, before, **arguments))).datamodule.mixes
        assert mix.alpha == alpha


def test_normalized_training_images_have_mean_0_and_standard_deviation_1():
    before = digits_recipe()
    data = build(resolve_edits(before, edited("normalize_input", before))).datamodule
    data.setup("fit")
    images, _ = data.on_after_batch_transfer((data.sets["train"].images, data.sets["train"].targets), 0)
    assert abs(images.mean()) < 1e-6
    assert abs(images.std(correction=0) - 1) < 1e-5


def test_principal_colors_come_from_imagenet_or_from_the_data():
    recipe = Recipe(edited("pca_lighting"))
    assert recipe.get("data.transforms.BatchPCALighting.sd") == 0.1
    recipe = Recipe(edited("pca_lighting", from_data=True))
    assert recipe.get("data.transforms.BatchPCALighting.eigenvalues") is None
    assert recipe.get("data.transforms.BatchPCALighting.eigenvectors") is None


def test_principal_colors_of_images_with_boxes_are_imagenets():
    scenes = base_recipe("digit_scenes")
    with pytest.raises(RecipeError, match=r"from_data is for classification and retrieval\. Leave it out"):
        pca_lighting(Recipe(scenes), from_data=True)


def test_the_strongest_bag_of_augmentations_is_one_recipe(tmp_path):
    names = ["random_crop", "horizontal_flip", "trivial_augment", "random_erasing", "cutmix", "normalize_input"]
    data = data_after(tmp_path, names)
    order = [transform["class_path"].rpartition(".")[2] for transform in data["transforms"]]
    assert order == ["BatchRandomCrop", "BatchRandomHorizontalFlip", "BatchTrivialAugment", "BatchRandomErasing"]
