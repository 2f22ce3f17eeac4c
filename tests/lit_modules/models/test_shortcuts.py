"""Channels of a stage's blocks, and how shortcut and residual come together."""

import itertools

import pytest
import torch

from lit_modules.models.shortcuts import JOINS, shape_blocks


def test_added_blocks_all_have_the_channels_of_the_stage() -> None:
    shapes = shape_blocks("add", depth=3, in_channels=8, channels=4, out_channels=16, stride=2)
    assert [(shape.in_channels, shape.residual_channels, shape.out_channels) for shape in shapes] == [
        (8, 16, 16),
        (16, 16, 16),
        (16, 16, 16),
    ]
    assert [shape.stride for shape in shapes] == [2, 1, 1]


@pytest.mark.parametrize(("depth", "out_channels"), [(1, 16), (3, 16), (4, 17), (8, 16)])
def test_concatenated_blocks_share_half_of_the_stage_and_end_with_all_of_it(depth: int, out_channels: int) -> None:
    shapes = shape_blocks("dense", depth, in_channels=8, channels=4, out_channels=out_channels, stride=2)
    made = [shape.residual_channels for shape in shapes]
    assert shapes[0].shortcut_channels == out_channels // 2
    assert sum(made) == out_channels - out_channels // 2
    assert max(made) - min(made) <= 1
    assert shapes[-1].out_channels == out_channels
    for shape, following in itertools.pairwise(shapes):
        assert shape.shortcut_channels + shape.residual_channels == shape.out_channels == following.in_channels
        assert following.shortcut_channels == following.in_channels


def test_joins_add_concatenate_and_leave_out() -> None:
    shortcut, residual = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(JOINS["add"](shortcut, residual.clone()), shortcut + residual)
    assert torch.equal(JOINS["dense"](shortcut, residual), torch.cat([shortcut, residual], 1))
    assert torch.equal(JOINS["none"](shortcut, residual), residual)
