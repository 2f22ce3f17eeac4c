"""The LightningModules as LightningCLI's parser sees them: every default is a key of the resolved configuration."""

from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.cli import LightningArgumentParser

from lit_modules import LitClassifier, ParameterGroups
from lit_modules.inference import CornerCropViews, Inference
from lit_modules.models import ResNet
from lit_modules.schedules import FractionalMultiStepLR

MODEL = {
    "class_path": "lit_modules.LitClassifier",
    "init_args": {
        "network": {
            "class_path": "lit_modules.models.ResNet",
            "init_args": {"num_classes": 10, "layers": [1, 1], "block": "basic", "width": 8, "stem": "small"},
        },
        "loss": {"class_path": "torch.nn.CrossEntropyLoss"},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        "schedule": {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR"},
    },
}


def parse(**changes: Any) -> tuple[dict[str, Any], LitClassifier]:
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(L.LightningModule, "model", subclass_mode=True)
    config = parser.parse_object({"model": MODEL | {"init_args": MODEL["init_args"] | changes}})
    return config.as_dict()["model"], parser.instantiate(config).model


def test_the_resolved_configuration_has_every_default() -> None:
    resolved, _ = parse()
    arguments = resolved["init_args"]
    assert arguments["parameter_groups"] == {"bias_decay": True, "lr_layers": [], "lr_divisor": 2.6}
    assert (arguments["channels_last"], arguments["compile"]) == (True, False)
    assert arguments["loss"]["init_args"]["label_smoothing"] == 0.0
    assert arguments["optimizer"]["init_args"]["momentum"] == 0.0
    assert arguments["schedule"]["init_args"]["eta_min"] == 0.0
    switches = {
        "stride_in_3x3": False,
        "deep_stem": False,
        "avg_pool_shortcut": False,
        "zero_gamma": False,
        "dropout": 0.0,
    }
    assert switches.items() <= arguments["network"]["init_args"].items()


def test_the_resolved_configuration_resolves_to_itself() -> None:
    resolved, _ = parse()
    again, _ = parse(**resolved["init_args"])
    assert again == resolved


def test_the_configuration_builds_the_module() -> None:
    _, module = parse(parameter_groups={"bias_decay": False})
    assert isinstance(module, LitClassifier)
    assert isinstance(module.network, ResNet)
    assert module.parameter_groups == ParameterGroups(bias_decay=False)
    optimizer = module.optimizer(module.parameter_groups(module))
    assert isinstance(optimizer, torch.optim.SGD)
    schedule = module.schedule(optimizer, T_max=50)
    assert isinstance(schedule, torch.optim.lr_scheduler.CosineAnnealingLR)
    assert schedule.T_max == 50


def test_schedules_of_our_own_take_their_arguments_from_the_configuration() -> None:
    resolved, module = parse(
        schedule={"class_path": "lit_modules.schedules.FractionalMultiStepLR", "init_args": {"milestones": [0.5]}}
    )
    assert resolved["init_args"]["schedule"]["init_args"] == {"milestones": [0.5], "gamma": 0.1}
    schedule = module.schedule(module.optimizer(module.parameter_groups(module)), total_steps=50)
    assert isinstance(schedule, FractionalMultiStepLR)
    assert list(schedule.milestones) == [25]


def test_an_inference_section_resolves_and_builds_its_views() -> None:
    parser = LightningArgumentParser()
    parser.add_argument("--inference", type=Inference, default=Inference())
    defaults = parser.get_defaults().as_dict()["inference"]
    assert defaults.pop("weights") == "last"
    assert set(defaults.values()) == {None}
    config = parser.parse_object({"inference": {"views": {"class_path": "lit_modules.inference.CornerCropViews"}}})
    assert config.as_dict()["inference"]["views"]["init_args"] == {"padding": 1}
    inference = parser.instantiate(config).inference
    assert isinstance(inference, Inference)
    assert isinstance(inference.views, CornerCropViews)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"chanels_last": True}, "chanels_last"),
        ({"parameter_groups": {"bias_decy": True}}, "bias_decy"),
        ({"loss": {"class_path": "torch.nn.NoLoss"}}, "NoLoss"),
    ],
)
def test_misspelt_keys_and_classes_are_refused(
    changes: dict[str, Any], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(**changes)
    assert word in capsys.readouterr().err
