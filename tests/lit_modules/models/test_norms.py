"""Normalizations against their definitions."""

import pytest
import torch
from torch import nn

from lit_modules.models.norms import InstanceBatchNorm, make_group_norm


@pytest.mark.parametrize(
    ("channels", "groups"), [(256, 32), (64, 32), (32, 16), (48, 16), (16, 8), (11, 1), (9, 1), (4, 2), (2, 1), (1, 1)]
)
def test_groups_are_32_or_as_many_as_leave_two_channels_each(channels: int, groups: int) -> None:
    assert make_group_norm(channels).num_groups == groups


def test_group_norm_does_not_see_the_other_images() -> None:
    norm, images = make_group_norm(8), torch.randn(3, 8, 4, 4)
    torch.testing.assert_close(norm(images)[:1], norm(images[:1]))


@pytest.mark.parametrize("channels", [2, 5, 8])
def test_instance_batch_norm_splits_the_channels_in_halves(channels: int) -> None:
    norm, x = InstanceBatchNorm(channels), torch.randn(4, channels, 3, 3) * 2 + 1
    half = channels // 2
    by_image = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    by_batch = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), torch.cat([by_image[:, :half], by_batch[:, half:]], 1), rtol=1e-4, atol=1e-5)


def test_both_halves_of_instance_batch_norm_have_scales_and_shifts() -> None:
    names = {name: parameter.numel() for name, parameter in InstanceBatchNorm(5).named_parameters()}
    assert names == {"IN.weight": 2, "IN.bias": 2, "BN.weight": 3, "BN.bias": 3}
    assert isinstance(InstanceBatchNorm(5).IN, nn.InstanceNorm2d)


def test_a_network_with_instance_batch_norm_still_becomes_one_of_16_bits() -> None:
    norm = InstanceBatchNorm(4).half()
    assert {parameter.dtype for parameter in norm.parameters()} == {torch.float16}
