"""What stands for a square convolution: pixels seen, parameters and operations by formula."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lit_modules.models.convolutions import make_asymmetric, make_convolution, make_separable, make_stacked

C, D = 6, 8


def make(maker, kernel: int, stride: int = 1, bias: bool = False) -> nn.Module:
    if maker is make_convolution:
        return make_convolution(kernel, C, D, stride, bias=bias)
    return maker(kernel, C, D, stride, bias, nn.BatchNorm2d, lambda channels: nn.ReLU())


def count_weights(network: nn.Module) -> int:
    return sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, nn.Conv2d))


def count_multiply_adds(network: nn.Module, size: int) -> float:
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.randn(1, C, size, size))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("maker", [make_convolution, make_stacked, make_asymmetric, make_separable])
def test_each_sees_a_square_of_the_kernel_s_side(maker, kernel: int) -> None:
    network = make(maker, kernel).double().eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1.0)
    image = torch.ones(1, C, 15, 15, dtype=torch.double, requires_grad=True)
    network(image)[0, :, 7, 7].sum().backward()
    rows, columns = image.grad[0, 0].nonzero(as_tuple=True)
    half = kernel // 2
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7 - half, 7 + half, 7 - half, 7 + half)
    assert len(rows) == kernel**2


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("maker", [make_stacked, make_asymmetric, make_separable])
def test_each_has_the_resolution_of_the_square_convolution(maker, stride: int, size: int) -> None:
    image = torch.randn(1, C, size, size)
    assert make(maker, 5, stride)(image).shape == make(make_convolution, 5, stride)(image).shape


@pytest.mark.parametrize(
    ("maker", "kernel", "weights"),
    [
        (make_convolution, 5, 25 * C * D),
        (make_stacked, 5, 9 * C * D + 9 * D * D),
        (make_stacked, 7, 9 * C * D + 2 * 9 * D * D),
        (make_asymmetric, 5, 5 * C * D + 5 * D * D),
        (make_separable, 5, 25 * C + C * D),
    ],
)
def test_weights_and_operations_are_those_of_the_formula(maker, kernel: int, weights: int) -> None:
    network = make(maker, kernel)
    assert count_weights(network) == weights
    assert count_multiply_adds(network, size=10) == weights * 10 * 10


def test_a_strided_row_and_column_each_halve_one_side() -> None:
    row, _, _, column = make(make_asymmetric, 3, stride=2)
    assert (row.kernel_size, row.stride, column.kernel_size, column.stride) == ((1, 3), (1, 2), (3, 1), (2, 1))


@pytest.mark.parametrize("maker", [make_stacked, make_asymmetric, make_separable])
def test_biases_are_there_where_no_norm_brings_them(maker) -> None:
    for bias in (False, True):
        layers = [layer for layer in make(maker, 5, bias=bias).modules() if isinstance(layer, nn.Conv2d)]
        assert [layer.bias is not None for layer in layers] == [bias] * 2
