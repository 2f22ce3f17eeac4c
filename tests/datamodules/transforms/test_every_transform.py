"""What holds for every transform of whole batches."""

import pytest
import torch
from torch import nn

import datamodules.transforms
from datamodules.transforms import (
    BatchAutoAugment,
    BatchBrightnessJitter,
    BatchColorJitter,
    BatchCutout,
    BatchPCALighting,
    BatchRandAugment,
    BatchRandomCrop,
    BatchRandomErasing,
    BatchRandomHorizontalFlip,
    BatchRandomResizedCrop,
    BatchRandomVerticalFlip,
    BatchTrivialAugment,
)

TRANSFORMS = [
    BatchAutoAugment("cifar10"),
    BatchBrightnessJitter(bounds=(0.1, 0.9)),
    BatchColorJitter(0.4, 0.4, 0.4, 0.1),
    BatchCutout(size=6),
    BatchPCALighting(sd=1.0),
    BatchRandAugment(),
    BatchRandomCrop(padding=2),
    BatchRandomErasing(),
    BatchRandomHorizontalFlip(),
    BatchRandomResizedCrop(),
    BatchRandomVerticalFlip(),
    BatchTrivialAugment(),
]
each_transform = pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: type(transform).__name__)


def seeded(transform: nn.Module, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return transform(images)


def random_images(count: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 12, 16), generator=torch.Generator().manual_seed(0)) / 255


def test_every_transform_is_here() -> None:
    names = [name for name in datamodules.transforms.__all__ if name.startswith("Batch")]
    assert sorted(type(transform).__name__ for transform in TRANSFORMS) == sorted(names)


@each_transform
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_dtype_and_range_stay_and_the_input_too(transform, dtype) -> None:
    images = random_images().to(dtype)
    before = images.clone()
    made = seeded(transform, images)
    assert made.shape == images.shape and made.dtype == dtype and made.device == images.device
    assert made.is_contiguous() and not made.requires_grad
    assert made.min() >= 0 and made.max() <= 1
    assert torch.equal(images, before)


@each_transform
def test_each_image_takes_a_draw_of_its_own(transform) -> None:
    images = random_images(1).expand(64, -1, -1, -1)
    assert len(seeded(transform, images).flatten(1).unique(dim=0)) > 1


@each_transform
def test_draws_come_from_the_global_generator(transform) -> None:
    images = random_images()
    assert torch.equal(seeded(transform, images), seeded(transform, images))
    assert not torch.equal(seeded(transform, images), seeded(transform, images, seed=1))


@each_transform
def test_an_image_does_not_depend_on_those_beside_it(transform) -> None:
    images = random_images()
    others = images.clone()
    others[::2] = 1 - others[::2]
    made, beside_others = seeded(transform, images), seeded(transform, others)
    assert torch.allclose(made[1::2], beside_others[1::2], atol=1e-6)
    assert not torch.allclose(made[::2], beside_others[::2], atol=1e-6)


@each_transform
def test_it_shows_its_arguments(transform) -> None:
    assert "=" in repr(transform)
