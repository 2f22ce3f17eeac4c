"""Tricks on detectors: those of several tasks, how they stack, and what cannot be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import save_file

from ablations import keys
from ablations.errors import RecipeError, StudyError
from ablations.parsing import build, resolve_edits
from ablations.planner import load_plan
from ablations.recipe import Recipe, changes, component
from ablations.registry import tricks
from lit_modules.models import Darknet, ResNet, YOLOv3Loss
from lit_modules.models.detection import FPN, OverlapLoss, ResNetBackbone
from tests.ablations.tricks.case import CUT_DOWN, base_recipe, edited, train
from tests.ablations.tricks.cases.detection_models import SMALL
from tests.helpers.recipes import write_study

NETWORK, LOSS = "model.detector.network", "model.detector.loss"
RESNET = {"num_classes": 1, "layers": [1, 1, 1, 1], "block": "bottleneck", "width": 4}


def scenes() -> dict[str, Any]:
    return base_recipe("digit_scenes")


def written(folder: Path, names: Sequence[str]) -> Path:
    """Write a study of the base with tricks."""
    settings = CUT_DOWN["digit_scenes"]
    study = {"task": "detection", "base": "digit_scenes", "metric": "test/map", "set": settings}
    return write_study(folder, tricks=list(names), **study)


def residual_scenes() -> dict[str, Any]:
    """Return the base with a small ResNet as its backbone."""
    recipe = Recipe(scenes())
    recipe.swap(
        f"{NETWORK}.backbone",
        "lit_modules.models.detection.ResNetBackbone",
        resnet=component("lit_modules.models.ResNet", RESNET),
    )
    return resolve_edits(scenes(), recipe.config)


def changed(name: str, before: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    after = resolve_edits(before, edited(name, before, **arguments))
    return {change.path: change.new for change in changes(before, after)}


def write(state: dict[str, torch.Tensor], folder: Path) -> str:
    path = folder / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return str(path)


NEEDS: dict[str, dict[str, Any]] = {
    "pretrained_backbone": {"weights": "weights.pt"},
    "small_batch": {"divisor": 4},
    "weight_decay": {"strength": 1e-4},
    "two_stage": {"network": SMALL},
    "detect_then_classify": {"weights": "weights.pt", "network": component("lit_modules.models.ResNet", RESNET)},
}
RESIDUAL = {"resnet_b", "resnet_c", "resnet_d"}


EDITED = ("architecture", "averaging", "detection_models", "fine_tuning", "loss", "optimization", "schedule")
"""The modules of tricks on the model and on how it is trained; those on images are tested with images."""


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name, trick in tricks().items()
        if "detection" in trick.tasks and trick.edit.__module__.rpartition(".")[2] in EDITED
    ),
)
def test_a_trick_that_lists_detection_can_edit_a_detector(name):
    before = residual_scenes() if name in RESIDUAL else scenes()
    assert changed(name, before, **NEEDS.get(name, {}))


def test_loss_tricks_stack_in_any_order(tmp_path):
    names = ["ohem", "iou_loss", "label_smoothing", "focal_loss"]
    for order in (names, names[::-1]):
        plan = load_plan(written(tmp_path, order))
        loss = build(plan.rows[-1].recipe).module.detector.loss
        assert isinstance(loss, YOLOv3Loss)
        assert isinstance(loss.boxes, OverlapLoss)
        assert (loss.label_smoothing, loss.focal_gamma, loss.negatives_per_box) == (True, 2.0, 3.0)


@pytest.mark.parametrize("pair", [("iou_loss", "gaussian_yolo"), ("no_fpn", "bifpn"), ("upsample_conv", "bifpn")])
def test_two_tricks_on_one_part_are_refused(pair, tmp_path):
    with pytest.raises(StudyError, match=rf"'{pair[1]}' and '{pair[0]}' both set"):
        load_plan(written(tmp_path, pair))


def test_a_transposed_convolution_is_replaced():
    recipe = Recipe(scenes())
    recipe.swap(f"{NETWORK}.neck", "lit_modules.models.detection.FPN", upsampling="transposed")
    before = resolve_edits(scenes(), recipe.config)
    assert changed("upsample_conv", before) == {f"{NETWORK}.neck.upsampling": "convolution"}


def test_variants_of_the_network_stack():
    recipe = scenes()
    for name in ("single_level_anchors", "upsample_conv", "aspp", "dilated_last_stage", "gaussian_yolo"):
        recipe = resolve_edits(recipe, edited(name, recipe))
    network = build(recipe).module.detector.network
    assert isinstance(network.neck, FPN)
    raw, grid, variances = network(torch.rand(2, 3, 64, 64))
    assert (grid.shapes, grid.scale_strides) == (((8, 8),), (8,))
    assert variances.shape[:2] == raw.shape[:2] == (2, 8 * 8 * 9)


def test_a_paper_backbone_that_is_not_named_can_be_dilated():
    recipe = Recipe(scenes())
    recipe.set(f"{NETWORK}.backbone", None)
    after = Recipe(edited("dilated_last_stage", recipe.config)).get(f"{NETWORK}.backbone")
    assert after == component("lit_modules.models.Darknet", {"dilated_last_stage": True})


def test_two_stages_are_torchvisions_with_a_background_and_the_size_of_the_images():
    before = scenes()
    detector = resolve_edits(before, edited("two_stage", before))["model"]["init_args"]["detector"]
    network = detector["init_args"]["network"]
    assert network["class_path"] == "torchvision.models.detection.fasterrcnn_resnet50_fpn"
    wanted = {"num_classes": 11, "weights": None, "weights_backbone": None, "min_size": 64, "max_size": 64}
    assert {key: network["init_args"][key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("name", "arguments", "first", "message"),
    [
        ("label_smoothing", {"epsilon": 0.1}, None, r"in detection it is min\(1/K, 1/40\) of K classes"),
        ("ohem", {"fraction": 0.5}, None, "ohem: in this task it has the argument negatives_per_box alone"),
        ("bifpn", {}, "single_level_anchors", "bifpn: .*anchor_level is set, and all anchors on one map need the FPN"),
        ("single_level_anchors", {}, "no_fpn", "single_level_anchors: it is for the FPN, but .*neck is NoFPN"),
        ("upsample_conv", {}, "bifpn", "upsample_conv: it is for the FPN, but .*neck is BiFPN"),
        ("resnet_d", {}, None, "backbone is lit_modules.models.Darknet.*, and this is for residual networks"),
        ("aspp", {}, "two_stage", "has no 'context'"),
    ],
)
def test_what_does_not_fit_is_refused(name, arguments, first, message):
    before = scenes() if first is None else resolve_edits(scenes(), edited(first, scenes()))
    with pytest.raises(RecipeError, match=message):
        edited(name, before, **arguments)


def test_images_are_mined_by_their_share_alone():
    with pytest.raises(RecipeError, match="ohem: in this task it has the argument fraction alone"):
        edited("ohem", negatives_per_box=3)


def test_a_residual_backbone_hands_on_the_maps_of_its_stages():
    torch.manual_seed(0)
    resnet = ResNet(**RESNET)
    images = torch.rand(2, 3, 64, 96)
    expected = resnet.eval().forward_features(images)
    backbone = ResNetBackbone(resnet)
    assert backbone.training
    assert (backbone.scale_channels, backbone.scale_strides) == ((32, 64, 128), (8, 16, 32))
    maps = backbone.eval()(images)
    assert [tuple(features.shape[1:]) for features in maps] == [(32, 8, 12), (64, 4, 6), (128, 2, 3)]
    torch.testing.assert_close(maps[-1], expected)
    assert not any(name.startswith("resnet.fc") for name, _ in backbone.named_parameters())


def test_variants_of_a_residual_backbone_are_those_of_the_network():
    found = changed("resnet_d", residual_scenes())
    keys = ("stride_in_3x3", "deep_stem", "avg_pool_shortcut")
    assert found == {f"{NETWORK}.backbone.resnet.{key}": True for key in keys}


def test_a_file_fills_the_backbone_and_nothing_else(tmp_path):
    torch.manual_seed(1)
    state = Darknet([0] * 5, 8).state_dict()
    before = scenes()
    torch.manual_seed(0)
    plain = build(before).module.detector.state_dict()
    torch.manual_seed(0)
    recipe = resolve_edits(before, edited("pretrained_backbone", before, weights=write(state, tmp_path)))
    loaded = build(recipe).module.detector.state_dict()
    for name, tensor in loaded.items():
        part, _, inner = name.partition("network.backbone.")
        assert torch.equal(tensor, state[inner] if not part else plain[name])


def test_a_file_of_a_residual_classifier_fills_the_backbone_but_for_the_last_layer(tmp_path):
    torch.manual_seed(1)
    state = ResNet(**{**RESNET, "num_classes": 7}).state_dict()
    before = residual_scenes()
    recipe = resolve_edits(before, edited("pretrained_backbone", before, weights=write(state, tmp_path)))
    loaded = build(recipe).module.detector.network.backbone.resnet.state_dict()
    assert loaded and all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())


def test_a_detector_without_the_part_is_refused(tmp_path):
    before = scenes()
    recipe = edited("pretrained_backbone", before, weights=write({}, tmp_path), part="network.backbon")
    with pytest.raises(RecipeError, match=r"has no part 'network\.backbon'\. It has: network\.backbone\."):
        build(resolve_edits(before, recipe))


PARTS = {"backbone.stem", "backbone.stages.0", "backbone.stages.4", "neck", "heads"}


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("freeze_shallow", {"backbone.stem", "backbone.stages.0"}),
        ("freeze_backbone_then_unfreeze", {"backbone.stem", "backbone.stages.0", "backbone.stages.4"}),
        ("replace_head", PARTS - {"heads"}),
    ],
)
def test_frozen_parts_of_a_detector_stay_as_they_are(name, frozen):
    before = scenes()
    recipe = resolve_edits(before, edited(name, before))
    freeze = build(recipe).trainer_arguments["callbacks"]
    module = train(recipe, *freeze, max_epochs=4, max_steps=1, limit_val_batches=0)  # a step of eight: not yet released
    plain = build_from_seed(recipe)
    after = module.detector.network.state_dict()
    moved = {
        part for part in PARTS for key in after if key.startswith(part) and not torch.equal(after[key], plain[key])
    }
    assert moved == PARTS - frozen


def build_from_seed(recipe: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the initial weights of the network that `train` starts from."""
    L.seed_everything(0)
    return build(recipe).module.detector.network.state_dict()


def test_rates_fall_down_the_backbone():
    layers = changed("discriminative_lr", scenes(), divisor=2.0)["model.parameter_groups.lr_layers"]
    assert layers[0] == ["detector.network.backbone.stem"]
    assert layers[-1] == ["detector.network.backbone.stages.4"]
    recipe = resolve_edits(scenes(), edited("discriminative_lr", scenes()))
    module = train(recipe, max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    assert len(module.optimizers().param_groups) == 7  # stem, five stages, and all above


def test_another_classifier_in_the_file_is_another_score(tmp_path):
    names = []
    for value in (0.0, 1.0):
        path = write({"network.fc.bias": torch.tensor([value])}, tmp_path)
        keys._file_hash.cache_clear()
        recipe = edited("detect_then_classify", scenes(), weights=path, network=component("torch.nn.Identity"))
        names.append(keys.scoring_of(recipe)[0])
    assert names[0] != names[1]
