import pytest
import torch
from torchvision.transforms.v2 import functional

from datamodules.transforms import BatchColorJitter
from datamodules.transforms.color import (
    adjust_brightness_each,
    adjust_contrast_each,
    adjust_hue_each,
    adjust_saturation_each,
    luminance,
)

PAIRS = {
    "brightness": (adjust_brightness_each, functional.adjust_brightness),
    "contrast": (adjust_contrast_each, functional.adjust_contrast),
    "saturation": (adjust_saturation_each, functional.adjust_saturation),
    "hue": (adjust_hue_each, functional.adjust_hue),
}


def images_with_ties(count: int) -> torch.Tensor:
    """Images of few levels, so that channels are often equal, and black, white and grey pixels among them."""
    return torch.randint(0, 5, (count, 3, 9, 7)) / 4


@pytest.mark.parametrize("name", PAIRS)
def test_each_image_is_changed_by_its_own_factor_as_by_torchvision(name: str) -> None:
    torch.manual_seed(0)
    images = torch.cat([torch.rand(30, 3, 9, 7), images_with_ties(30)])
    factors = torch.rand(60) - 0.5 if name == "hue" else 2 * torch.rand(60)
    ours, theirs = PAIRS[name]
    expected = [theirs(image, factor) for image, factor in zip(images, factors.tolist(), strict=True)]
    assert torch.allclose(ours(images, factors), torch.stack(expected), atol=1e-5)


@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_grey_images_are_changed_as_by_torchvision(name: str) -> None:
    images, factors = torch.rand(10, 1, 5, 5), 2 * torch.rand(10)
    ours, theirs = PAIRS[name]
    expected = [theirs(image, factor) for image, factor in zip(images, factors.tolist(), strict=True)]
    assert torch.allclose(ours(images, factors), torch.stack(expected), atol=1e-6)


def test_a_jitter_goes_through_its_changes_in_each_images_own_order_as_a_loop_does() -> None:
    strengths = {"brightness": 0.4, "contrast": 0.3, "saturation": 0.5, "hue": 0.2}
    images = torch.rand(50, 3, 6, 6)
    torch.manual_seed(0)
    jittered = BatchColorJitter(**strengths)(images)
    torch.manual_seed(0)
    draws, orders = 2 * torch.rand(50, 4) - 1, torch.rand(50, 4).argsort(1)
    expected = []
    for image, draw, order in zip(images, draws.tolist(), orders.tolist(), strict=True):
        for kind in order:
            name, strength = list(strengths.items())[kind]
            image = PAIRS[name][1](image, draw[kind] * strength + (name != "hue"))
        expected.append(image)
    assert torch.allclose(jittered, torch.stack(expected), atol=1e-5)


def test_all_orders_are_drawn_equally_often() -> None:
    torch.manual_seed(0)
    images = torch.tensor([0.5, 0.9]).expand(10_000, 1, 1, 2)
    # Brightness cuts the brighter pixel at 1 before contrast or after: the two orders give different images.
    brighter_first = BatchColorJitter(brightness=1.0, contrast=1.0)
    torch.manual_seed(0)
    jittered = brighter_first(images)
    torch.manual_seed(0)
    factors = 2 * torch.rand(10_000, 4)
    first = adjust_contrast_each(adjust_brightness_each(images, factors[:, 0]), factors[:, 1])
    last = adjust_brightness_each(adjust_contrast_each(images, factors[:, 1]), factors[:, 0])
    differ = ((first - last).abs() > 1e-4).any(3).flatten()
    is_first = ((jittered - first).abs() < 1e-5).all(3).flatten()[differ].float()
    assert differ.sum() > 2000
    assert abs(is_first.mean() - 0.5) < 5 * 0.5 / len(is_first) ** 0.5  # five standard errors


def test_strength_zero_changes_nothing() -> None:
    images = torch.rand(8, 3, 4, 4)
    assert torch.equal(BatchColorJitter()(images), images)


def test_grey_images_that_are_to_change_colour_are_refused() -> None:
    grey = torch.rand(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"saturation=0\.4.*grey images have no saturation and no hue; set 0"):
        BatchColorJitter(0.4, 0.4, 0.4)(grey)
    assert BatchColorJitter(0.4, 0.4)(grey).shape == grey.shape


def test_channels_that_are_no_colours_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 channels, or 1 if grey, not with 4"):
        luminance(torch.rand(2, 4, 3, 3))


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"brightness=2 must be between 0 and 1; hue=0\.7 must be between 0 and 0\.5"):
        BatchColorJitter(brightness=2, hue=0.7)
