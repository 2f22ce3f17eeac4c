"""Which parameter lands in which group, listed by name for a network with everything that matters."""

from typing import Any

import pytest
import torch
from torch import nn

from lit_modules import ParameterGroups


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
