"""Networks of torchvision and timm in a recipe, by class path, with weights from a local file."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torchvision
import yaml
from torch import nn

from ablations.data_problems import data_problems
from ablations.parsing import Parts, build, resolve
from ablations.study_file import HERE
from tests.ablations.tricks.case import QUIET


def resolve_with(network: dict[str, Any], **model: Any) -> dict[str, Any]:
    """Return the resolved recipe of the digits base with another network."""
    recipe = yaml.safe_load((HERE / "bases" / "digits.yaml").read_text())
    recipe["model"]["init_args"] |= {"network": network, **model}
    return resolve(recipe)


def build_with(network: dict[str, Any], **model: Any) -> Parts:
    """Return the parts of the digits base with another network."""
    L.seed_everything(0)
    return build(resolve_with(network, **model))


def train_one_step(module: L.LightningModule, channels: int) -> set[str]:
    """Train on one batch of random images, and return the names of the network's parameters that moved."""
    network: nn.Module = module.network
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    images = torch.randn(4, channels, 32, 32)
    batches = torch.utils.data.DataLoader([(image, index) for index, image in enumerate(images)], batch_size=4)
    trainer = L.Trainer(accelerator="cpu", max_steps=1, limit_val_batches=0, **QUIET)
    trainer.fit(module, batches, batches)
    assert trainer.global_step == 1
    return {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}


def test_a_network_of_torchvision_trains_from_weights_in_a_file(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    stored = torch.load(tmp_path / "resnet18.pth", weights_only=True)
    pretrained = {
        "class_path": "lit_modules.pretrained_weights.PretrainedWeights",
        "init_args": {"weights": str(tmp_path / "resnet18.pth"), "skip": ["fc"]},
    }
    network = {"class_path": "torchvision.models.resnet18", "init_args": {"num_classes": 10}}
    module = build_with(network, init=pretrained).module
    assert isinstance(module.network, torchvision.models.ResNet)
    assert module.network.fc.out_features == 10
    assert all(torch.equal(module.network.state_dict()[name], stored[name]) for name in stored if "fc" not in name)
    assert {"conv1.weight", "fc.weight"} <= train_one_step(module, channels=3)


def test_a_network_of_timm_trains_on_the_digits() -> None:
    timm = pytest.importorskip("timm")
    parts = build_with(
        {
            "class_path": "timm.create_model",
            "init_args": {"model_name": "test_resnet"},
            "dict_kwargs": {"num_classes": 10, "in_chans": 1},
        }
    )
    assert isinstance(parts.module.network, timm.models.resnet.ResNet)
    trainer = L.Trainer(**{**parts.trainer_arguments, **QUIET, "max_steps": 1})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    assert trainer.global_step == 1


@pytest.mark.parametrize(
    "network",
    [
        {"class_path": "timm.create_model", "init_args": {"model_name": "x"}, "dict_kwargs": {"num_classes": 7}},
        {"class_path": "torchvision.models.resnet18", "init_args": {"num_classes": 7}},
    ],
)
def test_a_network_that_counts_other_classes_is_seen_before_it_is_built(network: dict[str, Any]) -> None:
    pytest.importorskip(network["class_path"].partition(".")[0])
    (problem,) = data_problems(resolve_with(network), [0])
    assert problem.startswith("model.network.num_classes is 7, but the data has 10 classes: 0, 1,")


def test_a_network_of_timm_takes_a_file_and_a_head_for_other_classes(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    original = timm.create_model("test_resnet")
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    module = build_with(
        {
            "class_path": "timm.create_model",
            "init_args": {
                "model_name": "test_resnet",
                "pretrained": True,
                "pretrained_cfg_overlay": {"file": str(tmp_path / "weights.pth")},
            },
            "dict_kwargs": {"num_classes": 10},
        }
    ).module
    stored = original.state_dict()
    assert module.network.get_classifier().out_features == 10
    loaded = module.network.state_dict()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored if not name.startswith("fc."))
    assert {"bn1.weight", "fc.weight"} <= train_one_step(module, channels=3)
