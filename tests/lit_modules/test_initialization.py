"""Initial weights against their moments, and what they leave alone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from lit_modules import LitClassifier
from lit_modules.initialization import (
    HeInitialization,
    Initialization,
    OrthogonalInitialization,
    XavierInitialization,
)
from lit_modules.models import ResNet

ALL = [XavierInitialization, HeInitialization, OrthogonalInitialization]
LAYERS = [
    (partial(nn.Linear, 300, 500), 300, 500),
    (partial(nn.Conv2d, 64, 128, 3), 64 * 9, 128 * 9),
    (partial(nn.Conv1d, 200, 100, 5), 200 * 5, 100 * 5),
    (partial(nn.Conv2d, 256, 128, 3, groups=4), 64 * 9, 128 * 9),
]
"""Layers, with their inputs an output and their outputs an input."""


def make_network() -> ResNet:
    torch.manual_seed(0)
    return ResNet(num_classes=10, layers=[1, 1], block="basic", width=8, stem="small", zero_gamma=True)


def initialize(layer: nn.Module, initialization: Initialization, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    initialization(layer)
    return layer


@pytest.mark.parametrize(("make", "fan_in", "fan_out"), LAYERS)
def test_xavier_s_weights_are_uniform_with_the_variance_of_the_paper(
    make: Callable[[], Any], fan_in: int, fan_out: int
) -> None:
    weight = initialize(make(), XavierInitialization()).weight
    bound = (6 / (fan_in + fan_out)) ** 0.5
    assert weight.mean().item() == pytest.approx(0, abs=0.02 * bound)
    assert weight.var().item() == pytest.approx(2 / (fan_in + fan_out), rel=0.02)
    assert bound * 0.99 < weight.abs().max().item() <= bound


@pytest.mark.parametrize(("make", "fan_in", "fan_out"), LAYERS)
def test_he_s_weights_are_normal_with_the_variance_of_the_paper(
    make: Callable[[], Any], fan_in: int, fan_out: int
) -> None:
    weight = initialize(make(), HeInitialization()).weight
    deviation = (2 / fan_in) ** 0.5
    assert weight.mean().item() == pytest.approx(0, abs=0.02 * deviation)
    assert weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert (weight.pow(4).mean() / weight.var() ** 2).item() == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize(("make", "fan_in", "fan_out"), LAYERS)
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_orthogonal_rows_or_columns_have_one_length(
    make: Callable[[], Any], fan_in: int, fan_out: int, gain: float
) -> None:
    matrix = initialize(make(), OrthogonalInitialization(gain)).weight.detach().flatten(1)
    small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(small, gain**2 * torch.eye(len(small)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_every_weight_is_drawn_anew_and_nothing_else_changes(kind: type[Initialization]) -> None:
    network = make_network()
    nn.init.ones_(network.get_parameter("fc.bias"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    initialize(network, kind())
    drawn = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    weights = {f"{name}.weight" for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    assert len(weights) > 5
    assert drawn == {*weights, "fc.bias"}
    assert torch.equal(network.get_parameter("fc.bias"), torch.zeros(10))


@pytest.mark.parametrize("kind", ALL)
def test_the_seed_decides_and_the_order_in_memory_does_not(kind: type[Initialization]) -> None:
    first = initialize(make_network(), kind()).state_dict()
    again = initialize(make_network().to(memory_format=torch.channels_last), kind()).state_dict()
    other = initialize(make_network(), kind(), seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_classifier_starts_from_the_weights_that_are_drawn(channels_last: bool) -> None:
    expected = initialize(make_network(), HeInitialization()).state_dict()
    network = make_network()
    torch.manual_seed(0)
    module = LitClassifier(
        network,
        nn.CrossEntropyLoss(),
        partial(torch.optim.SGD, lr=0.1),
        channels_last=channels_last,
        init=HeInitialization(),
    )
    found = module.network.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert module.network.get_parameter("conv1.weight").is_contiguous(memory_format=torch.channels_last) or (
        not channels_last
    )


def test_an_initialization_without_a_law_is_refused() -> None:
    with pytest.raises(NotImplementedError):
        Initialization()(nn.Linear(2, 2))
