"""Channels-last order: what it changes in a network, and what it must not."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_modules.channels_last import SubsampledConv2d, to_channels_last
from lit_modules.models import ResNet

NARROW = {"num_classes": 3, "layers": [1, 1, 1], "width": 4, "stem": "small"}
KEPT = {
    "wide": nn.Conv2d(16, 8, 1, stride=2),
    "without a stride": nn.Conv2d(8, 8, 1),
    "padded": nn.Conv2d(8, 8, 1, stride=2, padding=1),
    "in groups": nn.Conv2d(8, 8, 1, stride=2, groups=2),
    "of 3 x 3": nn.Conv2d(8, 8, 3, stride=2),
    "of another class": type("Other", (nn.Conv2d,), {})(8, 8, 1, stride=2),
}
SHAPES_THAT_CRASHED = """
import torch
from torch import nn
from lit_modules.channels_last import to_channels_last
for threads, batch, size in ((2, 25, 10), (2, 25, 12), (2, 25, 16), (3, 26, 32), (1, 25, 56)):
    torch.set_num_threads(threads)
    convolution = to_channels_last(nn.Conv2d(8, 16, 1, stride=2, bias=False))
    for _ in range(50):
        images = torch.randn(batch, 8, size, size).contiguous(memory_format=torch.channels_last)
        convolution(images).square().sum().backward()
print("alive")
"""


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [2, 3, (1, 2), (2, 1)])
@pytest.mark.parametrize("size", [(9, 8), (10, 12), (1, 1)])
def test_a_narrow_convolution_with_a_stride_computes_the_same(stride, size, bias) -> None:
    plain = nn.Conv2d(5, 7, 1, stride, bias=bias, dtype=torch.float64)
    reference = plain.weight.detach().clone().requires_grad_()
    changed = to_channels_last(nn.Sequential(plain))[0]
    assert changed is plain and isinstance(changed, SubsampledConv2d)
    images = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(images, reference, plain.bias, stride)  # not in channels-last order, in which it is right
    grads = torch.autograd.grad(expected.square().sum(), [images, reference])
    found = changed(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), [images, changed.weight]), grads)


@pytest.mark.parametrize("kind", KEPT)
def test_every_other_convolution_stays(kind: str) -> None:
    before = type(KEPT[kind])
    assert type(to_channels_last(nn.Sequential(KEPT[kind]))[0]) is before


def test_a_network_keeps_its_names_its_weights_and_the_random_generator() -> None:
    network = ResNet(block="basic", **NARROW).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    changed = to_channels_last(network)
    assert changed is network
    assert torch.equal(torch.get_rng_state(), random)
    assert list(changed.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in changed.state_dict().items())
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in changed.parameters() if p.ndim == 4)
    assert not any(module.training for module in changed.modules())
    assert sum(isinstance(module, SubsampledConv2d) for module in changed.modules()) == 2  # the shortcuts 4→8 and 8→16


def test_a_convolution_whose_weight_a_hook_makes_keeps_its_hook() -> None:
    convolution = nn.utils.spectral_norm(nn.Conv2d(8, 8, 1, stride=2))
    with torch.no_grad():
        convolution.weight_orig.mul_(100)
    changed = to_channels_last(convolution)
    assert changed is convolution and isinstance(changed, SubsampledConv2d)
    for _ in range(50):  # of the power iteration
        changed(torch.zeros(1, 8, 4, 4))
    assert torch.linalg.matrix_norm(changed.weight[:, :, 0, 0], 2).item() == pytest.approx(1, abs=0.01)


def test_shapes_that_ended_the_process_train() -> None:
    done = subprocess.run([sys.executable, "-c", SHAPES_THAT_CRASHED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
