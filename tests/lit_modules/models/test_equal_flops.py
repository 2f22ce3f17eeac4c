"""Depth against width: networks of another form that cost as much."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lit_modules.models import ResNet
from lit_modules.models.equal_flops import find_thinner, find_wider_stem

RESNET20 = {"num_classes": 10, "layers": [3, 3, 3], "block": "basic", "width": 16, "stem": "small"}
NETWORKS = pytest.mark.parametrize(
    "network",
    [
        RESNET20,
        RESNET20 | {"width": 32, "layers": [1, 2], "deep_stem": True, "avg_pool_shortcut": True},
        RESNET20 | {"width": 32, "layers": [2, 1], "convolution": "separable", "squeeze_excite": 4},
        {"num_classes": 10, "layers": [1, 1], "block": "bottleneck", "width": 32},
    ],
    ids=["plain", "d", "separable", "bottleneck"],
)


def count_flops(arguments: dict[str, Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        ResNet(**arguments).eval()(torch.randn(1, 3, 32, 32))
    return counter.get_total_flops()


@NETWORKS
def test_a_thinner_network_is_deeper_and_costs_as_much(network: dict[str, Any]) -> None:
    layers, width = find_thinner(network, 2)
    assert width < network["width"]
    extra = [found - 2 * depth for found, depth in zip(layers, network["layers"], strict=True)]
    assert [blocks for blocks in extra if blocks] == [sum(extra)] or not any(extra)  # in one stage at most
    assert count_flops(network | {"layers": layers, "width": width}) == pytest.approx(count_flops(network), rel=0.05)


@NETWORKS
def test_a_wider_stem_is_paid_for_by_the_stages(network: dict[str, Any]) -> None:
    stem_width, width = find_wider_stem(network, 2)
    assert stem_width >= 2 * network["width"]
    assert width < network["width"]
    found = count_flops(network | {"stem_width": stem_width, "width": width})
    assert found == pytest.approx(count_flops(network), rel=0.05)


def test_a_stem_that_is_wider_already_grows_from_there() -> None:
    assert find_wider_stem(RESNET20 | {"stem_width": 20}, 2)[0] >= 40


@pytest.mark.parametrize(("find", "name"), [(find_thinner, "depth_factor"), (find_wider_stem, "factor")])
def test_a_factor_that_is_not_above_one_is_refused(find, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is 1; it must be above 1"):
        find(RESNET20, 1)


def test_a_network_too_narrow_to_become_thinner_is_refused() -> None:
    with pytest.raises(ValueError, match=r"width=1 .* of the operations, which is not within 5%. Start from a larger"):
        find_thinner(RESNET20 | {"width": 1}, 2)
