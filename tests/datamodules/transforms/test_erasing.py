import math

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from datamodules.transforms import BatchRandomErasing, draw_rectangles, erase_each


def erased_shares(images: torch.Tensor) -> torch.Tensor:
    """Share of each image that is zero, ``(N,)``."""
    return (images == 0).all(1).flatten(1).float().mean(1)


def test_each_image_loses_its_own_rectangle_as_in_a_loop() -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 3, 9, 12)
    rectangles = draw_rectangles(64, (9, 12), (0.02, 0.33), (0.3, 3.3))
    expected = images.clone()
    for n, (top, left, height, width) in enumerate(zip(*(part.tolist() for part in rectangles), strict=True)):
        expected[n, :, top : top + height, left : left + width] = 0.5
    assert torch.equal(erase_each(images, *rectangles, value=0.5), expected)


@pytest.mark.parametrize(("top", "left", "height", "width"), [(0, 0, 3, 2), (4, 5, 2, 3), (1, 2, 4, 4)])
def test_one_image_is_erased_as_by_torchvision(top: int, left: int, height: int, width: int) -> None:
    image = torch.rand(1, 3, 6, 8)
    expected = functional.erase(image, top, left, height, width, torch.full((3, 1, 1), 0.25))
    erased = erase_each(image, *(torch.tensor([part]) for part in (top, left, height, width)), value=0.25)
    assert torch.equal(erased, expected)


def test_the_input_is_left_as_it_was() -> None:
    images = torch.ones(4, 1, 8, 8)
    BatchRandomErasing(p=1.0)(images)
    assert torch.equal(images, torch.ones(4, 1, 8, 8))


def test_rectangles_lie_inside_the_image_and_touch_every_border() -> None:
    torch.manual_seed(0)
    top, left, height, width = draw_rectangles(20_000, (8, 10), (0.02, 0.33), (0.3, 3.3))
    assert top.min() == 0 and left.min() == 0
    assert (top + height).max() == 8 and (left + width).max() == 10
    assert height.max() == 7 and width.max() <= 9


def test_erased_area_and_aspect_ratio_stay_in_range_and_fill_it_evenly() -> None:
    torch.manual_seed(0)
    _, _, height, width = draw_rectangles(20_000, (1000, 1000), (0.1, 0.3), (0.5, 2.0))
    shares, ratios = (height * width) / 1e6, height / width
    assert shares.min() > 0.099 and shares.max() < 0.301
    assert ratios.min() > 0.49 and ratios.max() < 2.02
    assert abs(shares.mean() - 0.2) < 0.002 and abs(shares.std() - 0.2 / math.sqrt(12)) < 0.001
    assert abs(ratios.log().mean()) < 0.015


def test_erased_area_is_distributed_as_in_torchvision() -> None:
    torch.manual_seed(0)
    images = torch.ones(4000, 1, 8, 8)
    ours = erased_shares(BatchRandomErasing(p=1.0)(images))
    theirs = erased_shares(torch.stack([v2.RandomErasing(p=1.0)(image) for image in images]))
    assert abs(ours.mean() - theirs.mean()) < 0.01  # five standard errors of the difference
    assert abs(ours.std() - theirs.std()) < 0.007


def test_an_image_that_no_rectangle_fits_stays_whole() -> None:
    images = torch.ones(100, 1, 4, 4)
    assert torch.equal(BatchRandomErasing(p=1.0, scale=(0.9, 1.0), ratio=(5.0, 6.0))(images), images)


def test_a_rectangle_is_found_where_only_a_later_attempt_fits() -> None:
    torch.manual_seed(0)
    # One attempt fits for about 60 % of the images: all ten together miss hardly any.
    erased = BatchRandomErasing(p=1.0, scale=(0.3, 0.33), ratio=(0.2, 5.0))(torch.ones(2000, 1, 32, 32))
    assert (erased_shares(erased) > 0).float().mean() > 0.99


def test_p_zero_erases_nothing() -> None:
    images = torch.rand(100, 1, 8, 8)
    assert torch.equal(BatchRandomErasing(p=0.0)(images), images)


def test_each_image_is_drawn_apart_with_probability_p() -> None:
    torch.manual_seed(0)
    shares = erased_shares(BatchRandomErasing(p=0.3)(torch.ones(10_000, 1, 16, 16)))
    assert abs((shares > 0).float().mean() - 0.3) < 0.023  # five standard deviations
    assert len(shares.unique()) > 10


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"p=2 .*scale=\(0.5, 0.1\) .*ratio=\(0, 1\)"):
        BatchRandomErasing(p=2, scale=(0.5, 0.1), ratio=(0, 1))
