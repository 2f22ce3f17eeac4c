"""Views against naive loops over pixels."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lit_modules import LitClassifier
from lit_modules.inference import CornerCropViews, HorizontalFlipViews, Inference, MultiScaleViews, Views


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


def test_scales_must_change_the_size_and_stand_there_once() -> None:
    with pytest.raises(ValueError, match=r"at least one scale"):
        MultiScaleViews(())
    with pytest.raises(ValueError, match=r"wrong are \[0, 1, 1\.5, nan\]"):
        MultiScaleViews((0, 1, 1.5, 1.5, float("nan")))


@pytest.mark.parametrize(("scale", "says"), [(0.05, "makes 0 x 0 of images of 8 x 8"), (1.01, "makes 8 x 8 of")])
def test_a_scale_that_leaves_no_pixel_or_changes_none_is_refused(scale: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MultiScaleViews((scale,))(torch.rand(1, 1, 8, 8))


def test_scaled_views_are_the_image_and_its_resized_copies() -> None:
    images = torch.rand(2, 3, 8, 10)
    same, smaller, larger = MultiScaleViews((0.5, 1.25))(images)
    assert torch.equal(same, images)
    assert smaller.shape == (2, 3, 4, 5) and larger.shape == (2, 3, 10, 12)
    assert torch.allclose(smaller, resize_naively(images, 4, 5), atol=1e-5)
    assert torch.allclose(larger, resize_naively(images, 10, 12), atol=1e-5)


def resize_naively(images: Tensor, height: int, width: int) -> Tensor:
    """Sum over source pixels under a triangle, as wide as two pixels of the coarser of the two images."""
    return line_weights(images.shape[-2], height) @ images @ line_weights(images.shape[-1], width).T


def line_weights(source: int, size: int) -> Tensor:
    weights = torch.zeros(size, source)
    for i in range(size):
        for j in range(source):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - (i + 0.5) * source / size) / max(source / size, 1.0))
        weights[i] /= weights[i].sum()
    return weights


def test_scores_are_the_mean_of_the_probabilities_at_every_scale() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    optimizer, schedule = partial(torch.optim.SGD, lr=0.1), torch.optim.lr_scheduler.CosineAnnealingLR
    module = LitClassifier(network, nn.CrossEntropyLoss(), optimizer, schedule)
    views = MultiScaleViews((0.75, 1.5))
    module.inference = Inference(views=views)
    images = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        expected = sum(network(view).softmax(1) for view in views(images)) / 3
        assert torch.allclose(module.predict_step((images, torch.zeros(4)), 0), expected, atol=1e-6)
