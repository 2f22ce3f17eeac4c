import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from datamodules.transforms import BatchRandomResizedCrop, draw_crops, resized_crop_each


def torchvision_crops(count, image_size, **arguments) -> torch.Tensor:
    """Draw crops one by one: ``(count, 4)`` of top, left, height, width."""
    crop, image = v2.RandomResizedCrop(8, **arguments), torch.empty(1, *image_size)
    drawn = [crop.make_params([image]) for _ in range(count)]
    return torch.tensor([[each[name] for name in ("top", "left", "height", "width")] for each in drawn])


@pytest.mark.parametrize(
    ("image_size", "size"),
    [((32, 32), (32, 32)), ((13, 20), (13, 20)), ((32, 32), (9, 17)), ((40, 24), (8, 8)), ((8, 8), (20, 20))],
    ids=["same size", "not square", "smaller", "much smaller", "larger"],
)
def test_each_image_is_cropped_and_resized_as_by_torchvision(image_size, size) -> None:
    torch.manual_seed(0)
    images = torch.rand(40, 3, *image_size)
    crops = draw_crops(40, image_size, (0.08, 1.0), (3 / 4, 4 / 3))
    made = resized_crop_each(images, *crops, size)
    places = zip(images, *(part.tolist() for part in crops), strict=True)
    expected = [functional.resized_crop(image, *place, list(size), antialias=True) for image, *place in places]
    assert torch.allclose(made, torch.stack(expected), atol=1e-5)


def test_the_whole_image_comes_back_as_it_was() -> None:
    images = torch.rand(4, 3, 10, 7)
    zero, height, width = torch.zeros(4), torch.full((4,), 10), torch.full((4,), 7)
    assert torch.allclose(resized_crop_each(images, zero, zero, height, width, (10, 7)), images, atol=1e-6)


def test_crops_are_distributed_as_in_torchvision() -> None:
    torch.manual_seed(0)
    ours = torch.stack(draw_crops(4000, (32, 24), (0.08, 1.0), (0.8, 2.0)), 1).float()
    theirs = torchvision_crops(4000, (32, 24), ratio=(0.8, 2.0)).float()
    difference, spread = ours.mean(0) - theirs.mean(0), (ours.var(0) + theirs.var(0)).sqrt()
    assert (difference.abs() < 5 * spread / 4000**0.5).all()  # five standard errors of the difference
    assert ((ours.std(0) / theirs.std(0) - 1).abs() < 0.08).all()


def test_every_place_is_drawn_equally_often() -> None:
    torch.manual_seed(0)
    top, left, height, width = draw_crops(25_000, (8, 8), (0.25, 0.25), (1.0, 1.0))
    assert (height == 4).all() and (width == 4).all()
    counts = torch.bincount(5 * top + left, minlength=25)
    assert len(counts) == 25 and (counts - 1000).abs().max() < 155  # five standard deviations


def test_crops_lie_inside_the_image_and_reach_every_border() -> None:
    torch.manual_seed(0)
    top, left, height, width = draw_crops(20_000, (8, 10), (0.08, 1.0), (3 / 4, 4 / 3))
    assert top.min() == 0 and left.min() == 0 and height.min() > 0 and width.min() > 0
    assert (top + height).max() == 8 and (left + width).max() == 10


@pytest.mark.parametrize(
    ("image_size", "ratio"),
    [((8, 8), (5.0, 6.0)), ((9, 8), (0.1, 0.2)), ((30, 7), (1.0, 1.0)), ((7, 31), (1.0, 1.0))],
)
def test_the_largest_central_crop_is_taken_where_none_fits_as_in_torchvision(image_size, ratio) -> None:
    ours = torch.stack(draw_crops(3, image_size, (0.95, 1.0), ratio), 1)
    assert torch.equal(ours, torchvision_crops(3, image_size, scale=(0.95, 1.0), ratio=ratio))


def test_images_keep_their_size_unless_another_is_given() -> None:
    images = torch.rand(2, 3, 10, 12)
    assert BatchRandomResizedCrop()(images).shape == (2, 3, 10, 12)
    assert BatchRandomResizedCrop(size=6)(images).shape == (2, 3, 6, 6)


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"scale=\(0, 1\) .*ratio=\(2, 1\) .*size=0"):
        BatchRandomResizedCrop(scale=(0, 1), ratio=(2, 1), size=0)
