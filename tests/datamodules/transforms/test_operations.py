"""The operations of AutoAugment and its kin against torchvision's, one image at a time."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from datamodules.transforms.operations import OPERATIONS, apply_each, draw_signs, magnitude_table
from datamodules.transforms.policies import POLICIES


def affine(image: Tensor, translate=(0, 0), shear=(0.0, 0.0), center=None) -> Tensor:
    slopes = [math.degrees(math.atan(slope)) for slope in shear]
    return functional.affine(image, 0.0, list(translate), 1.0, slopes, center=center)


REFERENCES = {
    "Identity": lambda image, _: image,
    "ShearX": lambda image, m: affine(image, shear=(m, 0.0), center=[0, 0]),
    "ShearY": lambda image, m: affine(image, shear=(0.0, m), center=[0, 0]),
    "TranslateX": lambda image, m: affine(image, translate=(int(m), 0)),
    "TranslateY": lambda image, m: affine(image, translate=(0, int(m))),
    "Rotate": functional.rotate,
    "Brightness": lambda image, m: functional.adjust_brightness(image, 1 + m),
    "Color": lambda image, m: functional.adjust_saturation(image, 1 + m),
    "Contrast": lambda image, m: functional.adjust_contrast(image, 1 + m),
    "Sharpness": lambda image, m: functional.adjust_sharpness(image, 1 + m),
    "Posterize": lambda image, m: functional.posterize(image, int(m)),
    "Solarize": lambda image, m: functional.solarize(image, 255 * m),
    "AutoContrast": lambda image, _: functional.autocontrast(image),
    "Equalize": lambda image, _: functional.equalize(image),
    "Invert": lambda image, _: functional.invert(image),
}
CUT_TO_A_LEVEL = ("Color", "Contrast", "Sharpness")
"""These end in a float that is cut down to a level, so that its last digit can decide between two."""


def random_levels(count: int, shape: tuple[int, int, int]) -> Tensor:
    """Noise and, so that whole numbers and equal pixels are met, few levels."""
    noise = torch.randint(0, 256, (count // 2, *shape))
    steps = 60 + 25 * torch.randint(0, 5, (count - count // 2, *shape))
    return torch.cat([noise, steps]).to(torch.uint8)


def distance_from_torchvision(levels: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
    """Return by how many levels each pixel differs from torchvision's, one image after the other."""
    drawn = zip(levels, operation.tolist(), magnitude.tolist(), strict=True)
    expected = [REFERENCES[OPERATIONS[place]](image, strength) for image, place, strength in drawn]
    return (apply_each(levels, operation, magnitude).int() - torch.stack(expected).int()).abs()


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (3, 9, 14)], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_torchvisions_at_every_magnitude(name: str, shape, wide: bool) -> None:
    torch.manual_seed(0)
    place = OPERATIONS.index(name)
    magnitude = magnitude_table(31, shape[1:], wide)[place]
    magnitude = torch.cat([magnitude, -magnitude]) if 1 <= place <= 9 else magnitude
    count = len(magnitude)
    distance = distance_from_torchvision(random_levels(count, shape), torch.full((count,), place), magnitude)
    assert distance.max() <= (name in CUT_TO_A_LEVEL)
    assert (distance[: count // 2] > 0).float().mean() < 0.01  # of the noise


def test_each_image_of_a_batch_takes_its_own_operation() -> None:
    torch.manual_seed(0)
    operation, strength = torch.randint(len(OPERATIONS), (300,)), torch.randint(31, (300,))
    magnitude = magnitude_table(31, (12, 12), wide=True)[operation, strength]
    distance = distance_from_torchvision(random_levels(300, (3, 12, 12)), operation, magnitude)
    may_differ = torch.isin(operation, torch.tensor([OPERATIONS.index(name) for name in CUT_TO_A_LEVEL]))
    assert distance[~may_differ].max() == 0 and distance.max() <= 1


def test_the_input_is_left_as_it_was() -> None:
    levels = random_levels(60, (3, 6, 6))
    before = levels.clone()
    apply_each(levels, torch.arange(60) % len(OPERATIONS), torch.full((60,), 0.5, dtype=torch.float64))
    assert torch.equal(levels, before)


def test_images_too_small_to_sharpen_stay_as_they_are() -> None:
    levels = random_levels(2, (3, 2, 5))
    sharpened = apply_each(levels, torch.full((2,), OPERATIONS.index("Sharpness")), torch.ones(2).double())
    assert torch.equal(sharpened, levels)


@pytest.mark.parametrize(("reference", "wide"), [(v2.TrivialAugmentWide, True), (v2.AutoAugment, False)])
@pytest.mark.parametrize("bins", [10, 31])
def test_magnitudes_are_torchvisions(reference, wide: bool, bins: int) -> None:
    space = reference._AUGMENTATION_SPACE
    assert {*space} >= {*OPERATIONS} - {"Identity", "Invert"}
    for name, row in zip(OPERATIONS, magnitude_table(bins, (20, 24), wide), strict=True):
        magnitudes, signed = space.get(name, (lambda *_: None, False))
        expected = magnitudes(bins, 20, 24)
        assert torch.equal(row, torch.zeros(bins).double() if expected is None else expected.double())
        assert signed == bool((draw_signs(torch.full((100,), OPERATIONS.index(name))) < 0).any())


@pytest.mark.parametrize("policy", v2.AutoAugmentPolicy, ids=lambda policy: policy.value)
def test_policies_are_torchvisions(policy) -> None:
    pairs = v2.AutoAugment(policy)._policies
    assert POLICIES[policy.value] == tuple(tuple((name, p, place or 0) for name, p, place in pair) for pair in pairs)
