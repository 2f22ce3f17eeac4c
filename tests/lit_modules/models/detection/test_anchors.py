"""Anchors from data."""

import pytest
import torch
from torchvision.ops import box_iou

from lit_modules.models.detection import PAPER_ANCHORS, fit_anchors, scale_anchors, shape_iou


def draw_sizes(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 100 + 1


def test_shape_iou_is_the_iou_of_boxes_on_one_centre():
    first, second = draw_sizes(20), draw_sizes(7, seed=1)
    boxes = [torch.cat([-sizes / 2, sizes / 2], 1) for sizes in (first, second)]
    torch.testing.assert_close(shape_iou(first, second), box_iou(*boxes))


def test_shape_iou_of_nothing_is_zero():
    assert shape_iou(torch.zeros(1, 2), torch.zeros(1, 2)).item() == 0


def test_kinds_of_boxes_are_found():
    kinds = torch.tensor([(10.0, 10.0), (100.0, 10.0), (10.0, 100.0), (80.0, 80.0)])
    noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(3))
    anchors = fit_anchors(kinds.repeat(100, 1) + noise, count=4)
    found, expected = torch.tensor(sorted(anchors)), torch.tensor(sorted(kinds.tolist()))
    torch.testing.assert_close(found, expected, atol=0.5, rtol=0)


def test_no_anchor_moves_in_another_round():
    sizes = draw_sizes(300)
    anchors = torch.tensor(fit_anchors(sizes), dtype=torch.float64)
    nearest = shape_iou(sizes.double(), anchors).argmax(1)
    means = torch.stack([sizes[nearest == index].double().mean(0) for index in range(9)])
    torch.testing.assert_close(anchors, means)


def test_anchors_fit_better_than_the_papers():
    sizes = draw_sizes(300)
    fits = [shape_iou(sizes, torch.tensor(anchors)).amax(1).mean() for anchors in (fit_anchors(sizes), PAPER_ANCHORS)]
    assert fits[0] > fits[1]


def test_anchors_come_smallest_first_and_repeat_by_seed():
    sizes = draw_sizes(300)
    anchors = fit_anchors(sizes, seed=5)
    areas = [width * height for width, height in anchors]
    assert areas == sorted(areas)
    assert fit_anchors(sizes, seed=5) == anchors


def test_anchors_are_scaled():
    assert scale_anchors([(10, 20)], 0.5) == [(5, 10)]


def test_a_box_without_area_is_refused():
    with pytest.raises(ValueError, match="a box has no area"):
        fit_anchors(torch.tensor([[1.0, 0.0]]), count=1)


def test_more_anchors_than_shapes_are_refused():
    with pytest.raises(ValueError, match="count is 3; it must be from 1 to 2, the number of box shapes"):
        fit_anchors(torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 3.0]]), count=3)
