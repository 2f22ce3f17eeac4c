"""Asymmetric convolution blocks: what is fused computes what was trained."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lit_modules.models import ResNet, fuse_branches
from lit_modules.models.acnet import ACConvolution

SMALL = {"num_classes": 5, "layers": [1, 2], "width": 8, "stem": "small"}


def train_steps(network: nn.Module, steps: int) -> None:
    """Take steps that move weights, scales and running statistics."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(8, 3, 9, 9) + 0.5).square().mean().backward()
        optimizer.step()


def count_flops(network: nn.Module) -> int:
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(1, 3, 16, 16))
    return counter.get_total_flops()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_block_is_the_sum_of_three_normalized_convolutions(kernel: int, stride: int) -> None:
    block = ACConvolution(kernel, 3, 4, stride)
    images = torch.randn(2, 3, 9, 8)
    half = kernel // 2
    paddings = {"square": (half, half), "horizontal": (0, half), "vertical": (half, 0)}
    expected = sum(
        nn.functional.batch_norm(
            nn.functional.conv2d(images, getattr(block, name).conv.weight, stride=stride, padding=padding),
            None,
            None,
            training=True,
        )
        for name, padding in paddings.items()
    )
    torch.testing.assert_close(block(images), expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_fused_block_computes_the_same(kernel: int, stride: int) -> None:
    block = ACConvolution(kernel, 3, 4, stride)
    train_steps(block, 5)
    images = torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(block.eval().fuse()(images), block(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("steps", [0, 5])
def test_a_fused_network_computes_the_same(block: str, steps: int) -> None:
    network = ResNet(block=block, convolution="acnet", **SMALL)
    train_steps(network, steps)
    network.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fused = fuse_branches(network)
    images = torch.randn(4, 3, 11, 12)
    torch.testing.assert_close(fused(images), network(images), rtol=1e-5, atol=1e-5)
    assert not any(isinstance(module, ACConvolution) for module in fused.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_fused_network_costs_what_the_plain_one_does(block: str) -> None:
    plain = ResNet(block=block, **SMALL).eval()
    trained = ResNet(block=block, convolution="acnet", **SMALL).eval()
    fused = fuse_branches(trained)
    assert count_flops(fused) == count_flops(plain) < count_flops(trained)
    norms = {name for name, module in plain.named_modules() if isinstance(module, nn.BatchNorm2d)}
    left = {name for name, module in fused.named_modules() if isinstance(module, nn.BatchNorm2d)}
    biases = sum(plain.get_submodule(name).num_features for name in norms - left)  # one in place of scale and shift
    assert sum(p.numel() for p in fused.parameters()) == sum(p.numel() for p in plain.parameters()) - biases


def test_fusing_keeps_the_order_in_memory_and_a_network_without_blocks() -> None:
    network = ResNet(block="basic", convolution="acnet", **SMALL).to(memory_format=torch.channels_last)
    weight = fuse_branches(network).layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    plain = ResNet(block="basic", **SMALL).eval()
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(fuse_branches(plain)(images), plain(images))


def test_a_block_alone_is_fused_too() -> None:
    assert isinstance(fuse_branches(ACConvolution(3, 2, 2)), nn.Conv2d)
