"""ResNet against torchvision's, and against the sizes that the papers print."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lit_modules.models import ResNet
from lit_modules.models.residual import ResidualBlock

RESNET18 = {"num_classes": 1000, "layers": [2, 2, 2, 2], "block": "basic"}
RESNET50 = {"num_classes": 1000, "layers": [3, 4, 6, 3], "block": "bottleneck"}
RESNET20 = {"num_classes": 10, "layers": [3, 3, 3], "block": "basic", "width": 16, "stem": "small"}
B = {"stride_in_3x3": True}
C = B | {"deep_stem": True}
D = C | {"avg_pool_shortcut": True}

TORCHVISION_TWINS = pytest.mark.parametrize(
    ("reference", "arguments"),
    [(torchvision.models.resnet18, RESNET18), (torchvision.models.resnet50, RESNET50 | B)],
    ids=["resnet18", "resnet50"],
)


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def count_multiply_adds(arguments: dict[str, Any], size: int) -> float:
    with torch.device("meta"):
        network, images = ResNet(**arguments).eval(), torch.empty(1, 3, size, size)
    with FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() / 2


@TORCHVISION_TWINS
def test_torchvision_weights_load_and_give_the_same_outputs(
    reference: Callable[[], nn.Module], arguments: dict[str, Any]
) -> None:
    theirs = reference()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics and scales that differ between channels
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    ours = ResNet(**arguments)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize("zero_gamma", [False, True])
@TORCHVISION_TWINS
def test_initial_weights_are_those_of_torchvision_for_the_same_seed(
    reference: Callable[..., nn.Module], arguments: dict[str, Any], zero_gamma: bool
) -> None:
    torch.manual_seed(0)
    theirs = reference(zero_init_residual=zero_gamma).state_dict()
    torch.manual_seed(0)
    ours = ResNet(**arguments, zero_gamma=zero_gamma).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (RESNET18, 11_689_512),
        (RESNET50, 25_557_032),
        (RESNET50 | B, 25_557_032),
        (RESNET50 | C, 25_576_264),
        (RESNET50 | D, 25_576_264),
    ],
    ids=["18", "50", "50-B", "50-C", "50-D"],
)
def test_parameter_counts_are_the_published_ones(arguments: dict[str, Any], parameters: int) -> None:
    assert count_parameters(ResNet(**arguments)) == parameters


def test_cifar_resnet20_has_a_quarter_of_a_million_parameters() -> None:
    assert count_parameters(ResNet(**RESNET20)) == pytest.approx(0.27e6, rel=0.02)


@pytest.mark.parametrize(
    ("switches", "exact", "printed"),
    [({}, 3.858, 3.8), (B, 4.089, 4.1), (C, 4.329, 4.3), (D, 4.329, 4.3)],
    ids=["plain", "B", "C", "D"],
)
def test_multiply_adds_of_resnet50_are_those_of_table_5(switches: dict[str, Any], exact: float, printed: float) -> None:
    billions = count_multiply_adds(RESNET50 | switches, size=224) / 1e9
    assert billions == pytest.approx(exact, abs=0.001)
    assert billions == pytest.approx(printed, abs=0.06)  # the paper rounds 3.858 down


def test_the_small_stem_keeps_the_resolution_and_each_stage_halves_it() -> None:
    network = ResNet(**RESNET20)
    features = network.forward_features(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, network.num_features, 8, 8) == (2, 64, 8, 8)


def test_the_imagenet_stem_divides_the_resolution_by_four() -> None:
    network = ResNet(num_classes=5, layers=[1], block="bottleneck", width=8, in_channels=1)
    assert network.forward_features(torch.randn(2, 1, 64, 64)).shape == (2, 32, 16, 16)
    assert network(torch.randn(2, 1, 64, 64)).shape == (2, 5)


@pytest.mark.parametrize("size", [32, 33, 47])
@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_every_variant_has_the_resolution_of_the_plain_network_at_odd_sizes(stem: str, size: int) -> None:
    images = torch.randn(2, 3, size, size)
    shapes = set()
    for switches in ({}, B, C, D):
        network = ResNet(num_classes=5, layers=[1, 1, 1], block="bottleneck", width=8, stem=stem, **switches)
        shapes.add(network.forward_features(images).shape)
    assert len(shapes) == 1


def test_the_deep_stem_is_three_convolutions_of_three_by_three() -> None:
    for stem, strides in (("imagenet", [2, 1, 1]), ("small", [1, 1, 1])):
        network = ResNet(num_classes=5, layers=[1], block="basic", width=16, stem=stem, deep_stem=True)
        convolutions = [module for module in network.conv1 if isinstance(module, nn.Conv2d)]
        assert [conv.stride[0] for conv in convolutions] == strides
        assert [conv.kernel_size for conv in convolutions] == [(3, 3)] * 3
        assert [conv.out_channels for conv in convolutions] == [8, 8, 16]


def test_stride_in_3x3_moves_the_stride_within_the_block() -> None:
    def list_strides(**switches: Any) -> list[int]:
        block = ResNet(num_classes=5, layers=[1, 1], block="bottleneck", width=8, **switches).layer2[0]
        return [conv.stride[0] for conv in (block.conv1, block.conv2, block.conv3)]

    assert list_strides() == [2, 1, 1]
    assert list_strides(stride_in_3x3=True) == [1, 2, 1]


def test_the_pooled_shortcut_averages_and_does_not_skip() -> None:
    shortcut = ResNet(num_classes=5, layers=[1, 1], block="basic", width=4, avg_pool_shortcut=True).layer2[0].downsample
    images = torch.randn(1, 4, 6, 6)
    naive = torch.stack([images[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).mean(0)
    weight = shortcut[1].weight.flatten(1)
    expected = torch.einsum("oc,nchw->nohw", weight, naive)
    torch.testing.assert_close(shortcut[:2](images), expected)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_zero_gamma_makes_each_block_the_activation_of_its_shortcut(block: str) -> None:
    network = ResNet(num_classes=5, layers=[2, 2], block=block, width=8, stem="small", zero_gamma=True)
    identities = 0
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            x = torch.randn(2, next(module.parameters()).shape[1], 8, 8)
            shortcut = x if module.downsample is None else module.downsample(x)
            assert torch.equal(module(x), shortcut.relu())
            identities += module.downsample is None
    assert identities >= 2


def test_without_zero_gamma_a_block_changes_its_input() -> None:
    block = ResNet(**RESNET20).layer1[0]
    x = torch.randn(2, 16, 8, 8)
    assert not torch.allclose(block(x), x.relu())


def test_dropout_acts_before_the_last_layer_and_in_training_only() -> None:
    network = ResNet(num_classes=5, layers=[1], block="basic", width=64, stem="small", dropout=0.5)
    seen = []
    network.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.randn(4, 3, 8, 8)
    network.train()(images)
    network.eval()(images)
    assert 0.3 < (seen[0] == 0).float().mean() < 0.7
    assert (seen[1] == 0).float().mean() < 0.1


@pytest.mark.parametrize("switches", [{}, B, C, D, {"zero_gamma": True}], ids=["plain", "B", "C", "D", "zero-gamma"])
def test_every_parameter_gets_a_gradient(switches: dict[str, Any]) -> None:
    network = ResNet(num_classes=5, layers=[2, 1], block="bottleneck", width=8, stem="small", **switches)
    network(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride_in_3x3": True}, "stride_in_3x3 is True with block='basic'.*Use block='bottleneck'"),
        ({"layers": []}, r"layers is \[\]; it must list one to four stages"),
        ({"layers": [1, 1, 1, 1, 1]}, "one to four stages"),
        ({"layers": [2, 0]}, r"layers is \[2, 0\]"),
        ({"block": "wide"}, "block is 'wide'; it must be one of 'basic', 'bottleneck'"),
        ({"stem": "large"}, "stem is 'large'; it must be one of 'imagenet', 'small'"),
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(**(RESNET20 | changes))


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"width is -1.*layers is \[0\].*dropout is 2"):
        ResNet(**(RESNET20 | {"width": -1, "layers": [0], "dropout": 2.0}))
