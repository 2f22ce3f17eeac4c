"""Every switch of ResNet by itself, in pairs, and against torchvision and timm."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock
from torchvision.ops import StochasticDepth

from lit_modules.channels_last import to_channels_last
from lit_modules.models import ResNet
from lit_modules.models.norms import InstanceBatchNorm
from lit_modules.models.residual import ResidualBlock

SMALL: dict[str, Any] = {"num_classes": 5, "layers": [1, 2], "width": 8, "stem": "small"}
SWITCHES: dict[str, dict[str, Any]] = {
    "deep-stem": {"deep_stem": True},
    "pooled-shortcut": {"avg_pool_shortcut": True},
    "zero-gamma": {"zero_gamma": True},
    "wide-stem": {"stem_width": 11},
    "leaky": {"activation": "leaky_relu"},
    "prelu": {"activation": "prelu"},
    "group-norm": {"norm": "group"},
    "ibn": {"norm": "ibn"},
    "no-norm": {"norm": "none"},
    "kernel-5": {"kernel": 5},
    "stacked": {"kernel": 5, "convolution": "stacked_3x3"},
    "asymmetric": {"convolution": "asymmetric"},
    "acnet": {"convolution": "acnet"},
    "separable": {"convolution": "separable"},
    "dense": {"shortcut": "dense"},
    "no-shortcut": {"shortcut": "none"},
    "max": {"pooling": "max"},
    "dual": {"pooling": "dual"},
    "gem": {"pooling": "gem"},
    "squeeze": {"squeeze_excite": 4},
    "stochastic-depth": {"stochastic_depth": 0.5},
    "blur": {"blur_pool": True},
    "last-stride": {"last_stride_1": True},
}
EXCLUDED = {
    frozenset(pair)
    for pair in [
        ("zero-gamma", "no-norm"),
        ("zero-gamma", "dense"),
        ("zero-gamma", "no-shortcut"),
        ("pooled-shortcut", "no-shortcut"),
        ("acnet", "group-norm"),
        ("acnet", "ibn"),
        ("acnet", "no-norm"),
        ("stochastic-depth", "dense"),
        ("stochastic-depth", "no-shortcut"),
        ("blur", "last-stride"),  # of two stages, with a stem that keeps the resolution
    ]
}
PAIRS = [
    (first, second)
    for first, second in itertools.combinations(SWITCHES, 2)
    if not SWITCHES[first].keys() & SWITCHES[second].keys()
]


def list_blocks(network: nn.Module) -> list[ResidualBlock]:
    return [module for module in network.modules() if isinstance(module, ResidualBlock)]


def train_one_step(network: nn.Module, size: int) -> None:
    """Take a step from a loss that depends on every output, channels last, and check what it used and left."""
    network = to_channels_last(network)
    images = torch.randn(6, 3, size, size).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    nn.functional.cross_entropy(network(images), torch.tensor([0, 1, 2, 3, 4, 0])).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []
    torch.optim.SGD(network.parameters(), lr=0.01).step()
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
    assert torch.isfinite(network.eval()(images)).all()


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_trains_a_step_and_all_parameters_get_a_gradient(name: str, block: str) -> None:
    train_one_step(ResNet(block=block, **(SMALL | SWITCHES[name])), size=8)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if frozenset(pair) not in EXCLUDED], ids="+".join)
def test_pairs_of_switches_train_a_step_and_all_parameters_get_a_gradient(pair: tuple[str, str]) -> None:
    train_one_step(
        ResNet(block="basic", **(SMALL | {"layers": [1, 1]} | SWITCHES[pair[0]] | SWITCHES[pair[1]])), size=5
    )


@pytest.mark.parametrize("pair", sorted(map(sorted, EXCLUDED)), ids="+".join)
def test_pairs_that_make_no_sense_are_refused(pair: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^ResNet: "):
        ResNet(block="basic", **(SMALL | SWITCHES[pair[0]] | SWITCHES[pair[1]]))


@pytest.mark.parametrize("name", [name for name in SWITCHES if name != "last-stride"])
@pytest.mark.parametrize(("stem", "block"), [("small", "basic"), ("imagenet", "bottleneck")])
def test_every_switch_keeps_the_shapes_of_the_plain_network_at_odd_sizes(stem: str, name: str, block: str) -> None:
    images = torch.empty(2, 3, 41, 46, device="meta")
    with torch.device("meta"):
        plain = ResNet(block=block, **(SMALL | {"stem": stem}))
        network = ResNet(block=block, **(SMALL | {"stem": stem} | SWITCHES[name]))
    assert network.forward_features(images).shape == plain.forward_features(images).shape
    assert network.forward_features(images).shape[1] == network.num_features == plain.num_features
    assert network(images).shape == (2, 5)


def test_initial_weights_of_the_plain_small_network_are_those_of_he_s_normal_in_order() -> None:
    torch.manual_seed(3)
    ours = ResNet(num_classes=10, in_channels=1, layers=[1, 1], block="basic", width=16, stem="small").state_dict()
    torch.manual_seed(3)
    naive = nn.Sequential(
        nn.Conv2d(1, 16, 3, bias=False),
        nn.BatchNorm2d(16),
        BasicBlock(16, 16),
        BasicBlock(16, 32, 2, nn.Sequential(nn.Conv2d(16, 32, 1, 2, bias=False), nn.BatchNorm2d(32))),
        nn.Linear(32, 10),
    )
    for module in naive.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    assert len(ours) == len(naive.state_dict())
    pairs = zip(ours.values(), naive.state_dict().values(), strict=True)
    assert all(torch.equal(found, expected) for found, expected in pairs)


def test_switched_off_arguments_add_no_name_to_the_state() -> None:
    prefixes = {name.partition(".")[0] for name in ResNet(block="basic", **SMALL).state_dict()}
    assert prefixes == {"conv1", "bn1", "layer1", "layer2", "fc"}
    names = {name.split(".", 2)[2] for name in ResNet(block="basic", **SMALL).layer1[0].state_dict(prefix="a.b.")}
    assert {name.partition(".")[0] for name in names} == {"conv1", "bn1", "conv2", "bn2"}


@pytest.mark.parametrize(
    ("switches", "theirs"),
    [
        ({}, {}),
        ({"deep_stem": True}, {"stem_type": "deep", "stem_width": 32}),
        ({"deep_stem": True, "avg_pool_shortcut": True}, {"stem_type": "deep", "stem_width": 32, "avg_down": True}),
        ({"squeeze_excite": 16}, {"block_args": {"attn_layer": "se"}}),
    ],
    ids=["B", "C", "D", "squeeze-excite"],
)
def test_timm_weights_load_and_give_the_same_outputs(switches: dict[str, Any], theirs: dict[str, Any]) -> None:
    resnet = pytest.importorskip("timm.models.resnet")
    reference = resnet.ResNet(resnet.Bottleneck, [1, 2, 1, 1], num_classes=7, zero_init_last=False, **theirs)
    ours = ResNet(num_classes=7, layers=[1, 2, 1, 1], block="bottleneck", stride_in_3x3=True, **switches)
    ours.load_state_dict(reference.state_dict(), strict=True)
    images = torch.randn(2, 3, 65, 64)
    torch.testing.assert_close(ours.eval()(images), reference.eval()(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("name", ["acnet", "separable", "group-norm", "ibn", "squeeze", "asymmetric"])
def test_zero_gamma_makes_each_block_the_activation_of_its_shortcut(name: str, block: str) -> None:
    network = ResNet(block=block, zero_gamma=True, **(SMALL | SWITCHES[name]))
    for module in list_blocks(network):
        x = torch.randn(2, next(module.parameters()).shape[1 if name != "separable" else 0], 8, 8)
        if name == "separable" and block == "bottleneck":
            x = torch.randn(2, module.conv1.in_channels, 8, 8)
        shortcut = x if module.downsample is None else module.downsample(x)
        assert torch.equal(module(x), shortcut.relu())


@pytest.mark.parametrize("name", ["leaky_relu", "prelu"])
def test_the_activation_is_torch_s_everywhere(name: str) -> None:
    expected = {"leaky_relu": nn.LeakyReLU, "prelu": nn.PReLU}[name]
    for arguments in ({"deep_stem": True}, {}):
        network = ResNet(block="bottleneck", activation=name, **(SMALL | arguments))
        found = [module for module in network.modules() if isinstance(module, expected)]
        assert len(found) == 1 + 3 * 3 + 2 * len(arguments)
        assert not any(isinstance(module, nn.ReLU) for module in network.modules())
        if name == "prelu":
            widths = [slope.num_parameters for slope in found[-3:]]
            assert widths == [16, 16, 64]
            assert all((slope.weight == 0.25).all() for slope in found)
        else:
            assert {slope.negative_slope for slope in found} == {0.01}


def test_without_norm_there_are_biases_that_start_at_zero() -> None:
    network = ResNet(block="bottleneck", norm="none", deep_stem=True, **SMALL)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all(layer.bias is not None and (layer.bias == 0).all() for layer in convolutions)
    assert not any(isinstance(module, nn.modules.batchnorm._NormBase) for module in network.modules())


def test_without_batch_norm_images_do_not_see_each_other() -> None:
    images = torch.randn(3, 3, 8, 8)
    for norm in ("none", "group"):
        network = ResNet(block="basic", norm=norm, **SMALL).train()
        torch.testing.assert_close(network(images)[:1], network(images[:1]))
    network = ResNet(block="basic", **SMALL).train()
    assert not torch.allclose(network(images)[:1], network(images[:1]), atol=1e-3)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_instance_norm_is_first_in_the_blocks_of_all_stages_but_the_last(block: str) -> None:
    network = ResNet(block=block, norm="ibn", **(SMALL | {"layers": [1, 2, 1]}))
    names = [name for name, module in network.named_modules() if isinstance(module, InstanceBatchNorm)]
    assert names == ["layer1.0.bn1", "layer2.0.bn1", "layer2.1.bn1"]


def test_blocks_are_skipped_more_often_the_deeper_and_by_the_image() -> None:
    network = ResNet(block="basic", stochastic_depth=0.5, **(SMALL | {"layers": [1, 2, 1]}))
    drops = [block.drop for block in list_blocks(network)]
    assert all(isinstance(drop, StochasticDepth) and drop.mode == "row" for drop in drops)
    assert [drop.p for drop in drops] == [0.125, 0.25, 0.375, 0.5]


def test_a_skipped_block_is_its_shortcut_and_one_that_stays_is_scaled_up() -> None:
    block = list_blocks(ResNet(block="basic", stochastic_depth=0.5, **(SMALL | {"layers": [1, 1]})))[1]
    x = torch.randn(200, 8, 4, 4)
    shortcut, residual = block.downsample(x), block.residual(x)
    out = block(x)
    skipped = torch.isclose(out, shortcut.relu(), atol=1e-6).all(dim=(1, 2, 3))
    stayed = torch.isclose(out, (shortcut + 2 * residual).relu(), atol=1e-5).all(dim=(1, 2, 3))
    assert (skipped ^ stayed).all()
    assert 60 < skipped.sum() < 140
    block.eval()
    torch.testing.assert_close(block(x), (block.downsample(x) + block.residual(x)).relu())


def test_channels_are_weighted_by_their_content() -> None:
    network = ResNet(block="bottleneck", squeeze_excite=4, **SMALL)
    block = list_blocks(network)[0]
    assert [block.se.fc1.out_channels, block.se.fc2.out_channels] == [8, 32]
    x = torch.randn(2, 8, 6, 6)
    residual = block.residual(x)
    hidden = (residual.mean((2, 3)) @ block.se.fc1.weight.flatten(1).T).relu()
    scale = (hidden @ block.se.fc2.weight.flatten(1).T).sigmoid()
    expected = (block.downsample(x) + residual * scale[:, :, None, None]).relu()
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_dense_blocks_carry_their_input_on_unchanged() -> None:
    network = ResNet(block="basic", shortcut="dense", **(SMALL | {"layers": [3]}))
    x = torch.randn(2, 8, 6, 6).relu()
    outputs = [x]
    for block in network.layer1:
        outputs.append(block(outputs[-1]))
    assert [out.shape[1] for out in outputs] == [8, 5, 6, 8]
    assert torch.equal(outputs[2][:, :5], outputs[1])
    assert torch.equal(outputs[3][:, :6], outputs[2])


def test_without_shortcuts_a_block_is_its_residual() -> None:
    network = ResNet(block="basic", shortcut="none", **SMALL)
    assert all(block.downsample is None for block in list_blocks(network))
    block, x = network.layer1[0], torch.randn(2, 8, 6, 6)
    assert torch.equal(block(x), block.residual(x).relu())


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_blurred_networks_halve_by_blurring_alone(block: str) -> None:
    network = ResNet(block=block, blur_pool=True, **(SMALL | {"layers": [1, 1, 1], "stem": "imagenet"}))
    strided = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and module.stride not in (1, (1, 1))
    ]
    assert strided == ["conv1"]


def test_a_blurred_network_minds_a_shift_less() -> None:
    torch.manual_seed(0)
    changes = {}
    images = nn.functional.avg_pool2d(torch.randn(8, 3, 40, 40), 3, 1, 1)
    for blur in (False, True):
        network = ResNet(block="basic", blur_pool=blur, **(SMALL | {"layers": [1, 1, 1], "width": 16})).eval()
        here, there = network(images[..., :32, :32]), network(images[..., 1:33, 1:33])
        changes[blur] = ((here - there).norm() / (here - here.mean(0)).norm()).item()
    assert changes[True] < changes[False]


def test_the_last_stage_keeps_the_resolution_if_asked() -> None:
    images = torch.randn(1, 3, 64, 64)
    for last_stride_1, side in ((False, 4), (True, 8)):
        network = ResNet(5, [1, 1, 1], "bottleneck", width=4, last_stride_1=last_stride_1)
        assert network.forward_features(images).shape[2:] == (side, side)


def test_separable_convolutions_cost_the_formula() -> None:
    def count(**arguments: Any) -> float:
        with FlopCounterMode(display=False) as counter:
            ResNet(5, [1], "basic", stem="small", **arguments).eval()(torch.randn(1, 3, 8, 8))
        return counter.get_total_flops() / 2

    stem_and_head = 8 * 8 * 9 * 3 * 16 + 16 * 5
    assert count(width=16) == stem_and_head + 8 * 8 * 2 * 9 * 16 * 16
    assert count(width=16, convolution="separable") == stem_and_head + 8 * 8 * 2 * (9 * 16 + 16 * 16)


def test_the_outputs_of_a_depthwise_convolution_start_with_the_spread_of_its_inputs() -> None:
    torch.manual_seed(0)
    network = ResNet(5, [1], "basic", width=64, stem="small", convolution="separable")
    depthwise = network.layer1[0].conv1[0]
    assert depthwise.groups == 64
    assert depthwise.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "gelu"}, "activation is 'gelu'; it must be one of 'relu', 'leaky_relu', 'prelu'"),
        ({"norm": "layer"}, "norm is 'layer'; it must be one of 'batch', 'group', 'ibn', 'none'"),
        ({"convolution": "1xn"}, "convolution is '1xn'; it must be one of 'plain', 'acnet', 'stacked_3x3'"),
        ({"shortcut": "cat"}, "shortcut is 'cat'; it must be one of 'add', 'dense', 'none'"),
        ({"pooling": "mean"}, "pooling is 'mean'; it must be one of 'average', 'max', 'dual', 'gem'"),
        ({"stem_width": 0}, "stem_width is 0; it must be at least 1"),
        ({"kernel": 4}, "kernel is 4; it must be odd and at least 3"),
        ({"kernel": 1}, "kernel is 1; it must be odd"),
        ({"convolution": "stacked_3x3"}, "'stacked_3x3' with kernel=3.*Use kernel=5"),
        ({"convolution": "acnet", "norm": "group"}, "'acnet' with norm='group'.*Use norm='batch'"),
        ({"squeeze_excite": 0}, "squeeze_excite is 0; it must be at least 1"),
        ({"stochastic_depth": 1.0}, "stochastic_depth is 1.0; it is a probability"),
        ({"stochastic_depth": 0.2, "shortcut": "none"}, "stochastic_depth is 0.2 with shortcut='none'"),
        ({"avg_pool_shortcut": True, "shortcut": "none"}, "avg_pool_shortcut is True with shortcut='none'"),
        ({"zero_gamma": True, "norm": "none"}, "zero_gamma is True with norm='none'"),
        ({"zero_gamma": True, "shortcut": "dense"}, "zero_gamma is True with shortcut='dense'"),
        ({"norm": "ibn", "layers": [2]}, r"norm is 'ibn' with layers=\[2\] and width=8"),
        ({"norm": "ibn", "width": 1}, "norm is 'ibn' with .* and width=1"),
        ({"last_stride_1": True, "layers": [2]}, r"last_stride_1 is True with layers=\[2\]"),
        ({"blur_pool": True, "layers": [2]}, "blur_pool is True, but nothing in this network halves"),
        (
            {"shortcut": "dense", "layers": [5, 1]},
            "shortcut is 'dense' with 5 blocks in stage 1, which share 4 channels",
        ),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(block="basic", **(SMALL | changes))
