"""Pooling against naive loops, published formulas and timm."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn import AdaptiveAvgPool2d

from lit_modules.models.pooling import BlurPool, DualPooling, GeneralizedMeanPooling


@pytest.mark.parametrize("size", [(8, 8), (9, 6), (2, 3)])
def test_blurred_downsampling_is_that_of_timm(size: tuple[int, int]) -> None:
    layers = pytest.importorskip("timm.layers")
    images = torch.randn(2, 5, *size)
    torch.testing.assert_close(BlurPool(2)(images), layers.BlurPool2d(5, filt_size=3, stride=2)(images))


def test_blurring_weights_the_neighbours_as_a_triangle() -> None:
    image = torch.randn(1, 1, 6, 6)
    blurred = BlurPool(2)(image)
    line = (0.25, 0.5, 0.25)
    naive = sum(line[i] * line[j] * image[0, 0, 1 + i, 3 + j] for i in range(3) for j in range(3))
    torch.testing.assert_close(blurred[0, 0, 1, 2], naive)


@pytest.mark.parametrize("size", range(2, 10))
def test_blurring_has_the_resolution_of_a_strided_convolution(size: int) -> None:
    image = torch.randn(1, 1, size, size)
    assert BlurPool(2)(image).shape == F.conv2d(image, torch.ones(1, 1, 3, 3), stride=2, padding=1).shape


def test_the_filter_is_no_weight() -> None:
    assert not list(BlurPool(2).parameters())
    assert not BlurPool(2).state_dict()


def test_dual_pooling_puts_the_maximum_behind_the_average() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert DualPooling()(x).shape == (2, 6, 1, 1)
    torch.testing.assert_close(DualPooling()(x).flatten(1), torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))


@pytest.mark.parametrize("p", [1.0, 3.0, 4.5])
def test_generalized_mean_is_the_root_of_the_mean_power(p: float) -> None:
    x = torch.rand(2, 3, 4, 5) + 0.1
    naive = torch.tensor(
        [[(sum(v**p for v in channel.flatten().tolist()) / 20) ** (1 / p) for channel in y] for y in x]
    )
    torch.testing.assert_close(GeneralizedMeanPooling(p)(x).flatten(1), naive)


def test_generalized_mean_lies_between_average_and_maximum() -> None:
    x = torch.rand(2, 3, 4, 5) + 0.1
    torch.testing.assert_close(GeneralizedMeanPooling(1.0)(x), AdaptiveAvgPool2d(1)(x))
    torch.testing.assert_close(GeneralizedMeanPooling(100.0)(x).flatten(1), x.amax((2, 3)), rtol=0.05, atol=0)


def test_generalized_mean_learns_its_power_even_where_features_are_zero() -> None:
    pool = GeneralizedMeanPooling()
    x = torch.zeros(1, 2, 3, 3, requires_grad=True)
    pool(x + torch.tensor([0.0, 1.0])[:, None, None] * torch.arange(9.0).view(3, 3)).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert pool.p.grad.item() > 0  # the generalized mean rises with the power


def test_generalized_mean_keeps_16_bits_outside_and_not_inside() -> None:
    x = torch.rand(2, 3, 8, 8).bfloat16()
    pooled = GeneralizedMeanPooling()(x)
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled, GeneralizedMeanPooling()(x.float()).bfloat16())
