"""Views against naive loops over pixels."""

import pytest
import torch
from torch import Tensor

from lit_modules.inference import CornerCropViews, HorizontalFlipViews, Views


def shift_naively(images: Tensor, down: int, right: int) -> Tensor:
    """Move images by whole pixels and fill with zeros."""
    shifted = torch.zeros_like(images)
    height, width = images.shape[-2:]
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                shifted[..., y, x] = images[..., y - down, x - right]
    return shifted


def test_flip_views_are_the_image_and_its_mirror_image() -> None:
    images = torch.randn(2, 3, 4, 5)
    same, mirrored = HorizontalFlipViews()(images)
    assert torch.equal(same, images)
    assert all(torch.equal(mirrored[..., x], images[..., 4 - x]) for x in range(5))


@pytest.mark.parametrize("padding", [1, 2])
def test_corner_crops_are_the_image_and_its_four_diagonal_shifts(padding: int) -> None:
    images = torch.randn(2, 3, 5, 7)
    centre, *corners = CornerCropViews(padding)(images)
    assert torch.equal(centre, images)
    shifts = [(down, right) for down in (padding, -padding) for right in (padding, -padding)]
    assert len(corners) == 4
    for corner, shift in zip(corners, shifts, strict=True):
        assert torch.equal(corner, shift_naively(images, *shift))


@pytest.mark.parametrize("views", [HorizontalFlipViews(), CornerCropViews()])
def test_views_leave_the_images_as_they_were(views: Views) -> None:
    images = torch.randn(2, 3, 4, 4)
    before = images.clone()
    assert all(view.shape == images.shape for view in views(images))
    assert torch.equal(images, before)


def test_no_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="padding is 0; it must be at least 1 pixel"):
        CornerCropViews(0)
