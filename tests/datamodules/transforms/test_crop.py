import pytest
import torch
from torchvision.transforms.v2 import functional

from datamodules.transforms import BatchRandomCrop, crop_each


def numbered_images(count: int, channels: int = 3, height: int = 5, width: int = 7) -> torch.Tensor:
    """Images in which no two pixels are equal and none is zero."""
    return torch.arange(1, count * channels * height * width + 1.0).view(count, channels, height, width)


def test_each_image_is_cropped_at_its_own_place_as_in_a_loop() -> None:
    images, top, left = numbered_images(4), torch.tensor([0, 4, 2, 1]), torch.tensor([3, 0, 2, 4])
    padded = torch.zeros(4, 3, 9, 11)
    padded[:, :, 2:7, 2:9] = images
    expected = [padded[n, :, top[n] : top[n] + 5, left[n] : left[n] + 7] for n in range(4)]
    assert torch.equal(crop_each(images, top, left, padding=2), torch.stack(expected))


@pytest.mark.parametrize(("top", "left"), [(0, 0), (0, 2), (1, 1), (2, 0), (2, 1)])
def test_one_image_is_cropped_as_by_torchvision(top: int, left: int) -> None:
    image = numbered_images(1)
    expected = functional.crop(functional.pad(image, [1]), top, left, 5, 7)
    assert torch.equal(crop_each(image, torch.tensor([top]), torch.tensor([left]), padding=1), expected)


def test_uint8_images_stay_uint8() -> None:
    images = numbered_images(2).to(torch.uint8)
    assert torch.equal(crop_each(images, torch.tensor([1, 1]), torch.tensor([1, 1]), padding=1), images)


def test_padding_zero_changes_nothing() -> None:
    images = numbered_images(8)
    assert torch.equal(BatchRandomCrop(padding=0)(images), images)


def test_every_shift_is_drawn_equally_often_and_for_each_image_apart() -> None:
    torch.manual_seed(0)
    images = torch.zeros(9000, 1, 3, 3)
    images[:, :, 1, 1] = 1  # the one pixel that stays in sight at every shift
    places = BatchRandomCrop(padding=1)(images).flatten(1).argmax(1)
    counts = torch.bincount(places, minlength=9)
    assert (counts - 1000).abs().max() < 150  # five standard deviations


def test_the_draws_come_from_the_global_generator() -> None:
    images, crop = numbered_images(16), BatchRandomCrop(padding=2)
    torch.manual_seed(1)
    first = crop(images)
    assert not torch.equal(crop(images), first)
    torch.manual_seed(1)
    assert torch.equal(crop(images), first)


def test_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match=r"padding=-1.*0 or more"):
        BatchRandomCrop(padding=-1)
