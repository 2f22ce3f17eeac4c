"""Which parameter lands in which group, listed by name for a network with everything that matters."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from lit_modules import ParameterGroups
from lit_modules.cosine_cycles import CosineCycles
from lit_modules.schedules import ExponentialDecay, FractionalMultiStepLR, InverseTimeDecay, OneCycle


class Everything(nn.Module):
    """Norms of several kinds, biases, a frozen layer, a shared weight, a one-dimensional and a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.group_norm = nn.GroupNorm(2, 4)
        self.layer_norm = nn.LayerNorm((4, 4, 4))  # a normalization whose scale has three dimensions
        self.prelu = nn.PReLU(4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.head.weight
        self.scale = nn.Parameter(torch.ones(4))


def name_groups(module: nn.Module, groups: list[dict[str, Any]]) -> list[list[str]]:
    names = {parameter: name for name, parameter in module.named_parameters()}
    return [[names[parameter] for parameter in group["params"]] for group in groups]


def test_without_bias_decay_only_weights_of_convolutions_and_linear_layers_decay() -> None:
    module = Everything()
    decayed, others = name_groups(module, ParameterGroups(bias_decay=False)(module))
    assert decayed == ["conv.weight", "attention.in_proj_weight", "attention.out_proj.weight", "head.weight"]
    assert others == [
        "scale",
        "conv.bias",
        "bn.weight",
        "bn.bias",
        "group_norm.weight",
        "group_norm.bias",
        "layer_norm.weight",
        "layer_norm.bias",
        "prelu.weight",
        "attention.in_proj_bias",
        "attention.out_proj.bias",
        "head.bias",
        "tied.bias",
    ]


def test_the_optimizer_decays_the_first_group_only() -> None:
    optimizer = torch.optim.SGD(ParameterGroups(bias_decay=False)(Everything()), lr=0.1, weight_decay=1e-4)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4, 0.0]


def test_by_default_every_trainable_parameter_is_in_one_group_in_the_order_of_the_module() -> None:
    module = Everything()
    (group,) = ParameterGroups()(module)
    expected = [parameter for parameter in module.parameters() if parameter.requires_grad]
    assert len(group["params"]) == len(expected)
    assert all(listed is given for listed, given in zip(group["params"], expected, strict=True))
    assert set(group) == {"params"}


def test_no_parameter_is_lost_or_listed_twice() -> None:
    module = Everything()
    listed = [parameter for group in ParameterGroups(bias_decay=False)(module) for parameter in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {parameter for parameter in module.parameters() if parameter.requires_grad}


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.RMSNorm])
def test_normalizations_of_every_kind_are_spared(norm: type[nn.Module]) -> None:
    (group,) = ParameterGroups(bias_decay=False)(norm(4))
    assert group["weight_decay"] == 0.0


def test_an_empty_group_is_left_out() -> None:
    (group,) = ParameterGroups(bias_decay=False)(nn.Linear(2, 2, bias=False))
    assert "weight_decay" not in group


LAYERS = [["conv", "bn"], ["group_norm", "layer_norm"], ["attention.*weight", "prelu"]]


def test_each_layer_has_the_rate_of_the_one_above_it_divided() -> None:
    module = Everything()
    optimizer = ParameterGroups(lr_layers=LAYERS, lr_divisor=2.0).make_optimizer(module, partial(torch.optim.SGD, lr=8))
    assert [group["lr"] for group in optimizer.param_groups] == [8, 4, 2, 1]
    assert name_groups(module, optimizer.param_groups) == [
        ["scale", "attention.in_proj_bias", "attention.out_proj.bias", "head.weight", "head.bias", "tied.bias"],
        ["prelu.weight", "attention.in_proj_weight", "attention.out_proj.weight"],
        ["group_norm.weight", "group_norm.bias", "layer_norm.weight", "layer_norm.bias"],
        ["conv.weight", "conv.bias", "bn.weight", "bn.bias"],
    ]
    assert not any("lr_factor" in group for group in optimizer.param_groups)


def test_layers_and_decay_cross() -> None:
    module = Everything()
    groups = ParameterGroups(bias_decay=False, lr_layers=[["conv", "bn"]], lr_divisor=4.0)
    optimizer = groups.make_optimizer(module, partial(torch.optim.SGD, lr=1.0, weight_decay=0.5))
    found = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [(1, 0.5), (1, 0), (0.25, 0.5), (0.25, 0)]
    assert name_groups(module, optimizer.param_groups)[2:] == [["conv.weight"], ["conv.bias", "bn.weight", "bn.bias"]]
    listed = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(listed) == len(set(listed)) == sum(parameter.requires_grad for parameter in module.parameters())


def test_a_layer_that_is_frozen_has_no_group() -> None:
    module = Everything()
    optimizer = ParameterGroups(lr_layers=[["frozen"], ["conv"]]).make_optimizer(module, partial(torch.optim.SGD, lr=1))
    assert [group["lr"] for group in optimizer.param_groups] == [1, pytest.approx(1 / 2.6)]


SCHEDULES = {
    "step": partial(FractionalMultiStepLR, milestones=[0.5]),
    "cosine": CosineAnnealingLR,
    "cycles": partial(CosineCycles, cycles=2),
    "one cycle": partial(OneCycle, max_lr_factor=2.0),
    "exponential": ExponentialDecay,
    "inverse time": InverseTimeDecay,
}


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_every_schedule_keeps_the_rates_in_proportion(make: Any) -> None:
    groups = ParameterGroups(lr_layers=[["conv"], ["bn"]], lr_divisor=2.0)
    optimizer = groups.make_optimizer(Everything(), partial(torch.optim.SGD, lr=0.4, momentum=0.9))
    alone = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4, momentum=0.9)
    schedule, reference = make(optimizer, 20), make(alone, 20)
    rates = set()
    for _ in range(20):
        (rate,) = (group["lr"] for group in alone.param_groups)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate, rate / 2, rate / 4])
        rates.add(rate)
        for stepped in (optimizer, schedule, alone, reference):
            stepped.step()
    assert len(rates) > 1


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (ParameterGroups(lr_layers=[["conv"], ["stem"]]), "Everything has nothing named 'stem'. It has: .*bn.weight"),
        (ParameterGroups(lr_layers=[["conv"], ["conv.bias"]]), r"'conv.bias' is in two of lr_layers=\(\('conv',\), "),
        (ParameterGroups(lr_layers=[["conv"]], lr_divisor=0), "lr_divisor must be positive, not 0"),
    ],
)
def test_layers_that_cannot_be_are_refused(groups: ParameterGroups, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        groups(Everything())


def test_lists_and_tuples_are_the_same_groups() -> None:
    assert ParameterGroups(lr_layers=[["conv"], ["bn"]]) == ParameterGroups(lr_layers=(("conv",), ("bn",)))
    assert hash(ParameterGroups(lr_layers=[["conv"]])) == hash(ParameterGroups(lr_layers=[["conv"]]))
