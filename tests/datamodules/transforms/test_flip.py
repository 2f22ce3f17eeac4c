import pytest
import torch
from torchvision.transforms.v2 import functional

from datamodules.transforms import BatchRandomHorizontalFlip, BatchRandomVerticalFlip, flip_each

FLIPS = [(BatchRandomHorizontalFlip, -1), (BatchRandomVerticalFlip, -2)]


@pytest.mark.parametrize(("dim", "reference"), [(-1, functional.horizontal_flip), (-2, functional.vertical_flip)])
def test_only_the_chosen_images_are_mirrored_as_by_torchvision(dim, reference) -> None:
    images, flipped = torch.rand(5, 3, 4, 6), torch.tensor([True, False, False, True, True])
    expected = [images[n] if not flipped[n] else reference(images[n]) for n in range(5)]
    assert torch.equal(flip_each(images, flipped, dim), torch.stack(expected))


def test_uint8_images_stay_uint8() -> None:
    images = torch.arange(12, dtype=torch.uint8).view(1, 1, 3, 4)
    assert torch.equal(flip_each(images, torch.tensor([True])), images.flip(-1))


@pytest.mark.parametrize(("flip", "dim"), FLIPS)
def test_p_zero_mirrors_none_and_p_one_mirrors_all(flip, dim) -> None:
    images = torch.rand(500, 1, 2, 3)
    assert torch.equal(flip(0.0)(images), images)
    assert torch.equal(flip(1.0)(images), images.flip(dim))


@pytest.mark.parametrize("flip", [BatchRandomHorizontalFlip, BatchRandomVerticalFlip])
def test_each_image_is_drawn_apart_with_probability_p(flip) -> None:
    torch.manual_seed(0)
    images = torch.tensor([[0.0, 0.5], [0.5, 1.0]]).expand(10_000, 1, 2, 2)
    share = (flip(0.3)(images)[:, 0, 0, 0] == 0.5).float().mean()
    assert abs(share - 0.3) < 0.023  # five standard deviations


@pytest.mark.parametrize("flip", [BatchRandomHorizontalFlip, BatchRandomVerticalFlip])
@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_what_is_no_probability_is_refused(flip, p: float) -> None:
    with pytest.raises(ValueError, match=rf"{flip.__name__}\(p={p}.*between 0 and 1"):
        flip(p)
