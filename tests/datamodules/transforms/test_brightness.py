import numpy as np
import pytest
import torch

from datamodules.transforms import BatchBrightnessJitter, brightness_bounds


def flat_images(count: int, level: float) -> torch.Tensor:
    """Images whose mean is ``level`` and whose pixels differ."""
    return torch.tensor([0.9, 1.1]).mul(level).expand(count, 1, 1, 2).contiguous()


def factors_of(level: float, **arguments) -> torch.Tensor:
    torch.manual_seed(0)
    images = flat_images(10_000, level)
    return (BatchBrightnessJitter(**arguments)(images) / images)[:, 0, 0, 0]


def test_the_bounds_are_quantiles_of_the_images_means() -> None:
    images = torch.randint(0, 256, (101, 3, 5, 4), dtype=torch.uint8) // torch.arange(1, 102).view(-1, 1, 1, 1)
    means = images.numpy().reshape(101, -1).mean(1) / 255
    assert brightness_bounds(images) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])))


def test_factors_fill_the_strength_evenly_where_the_bounds_are_far() -> None:
    factors = factors_of(0.5, strength=0.4, bounds=(0.0, 1.0))
    assert 0.6 <= factors.min() < 0.601 and 1.399 < factors.max() <= 1.4
    assert abs(factors.mean() - 1) < 5 * 0.8 / 12**0.5 / 100  # five standard errors


def test_an_image_never_leaves_the_brightness_of_the_data() -> None:
    means = 0.5 * factors_of(0.5, strength=0.4, bounds=(0.4, 0.55))
    assert 0.4 - 1e-6 <= means.min() < 0.401 and 0.549 < means.max() <= 0.55 + 1e-6


@pytest.mark.parametrize(("level", "low", "high"), [(0.2, 1.0, 1.4), (0.8, 0.6, 1.0)])
def test_an_image_outside_the_bounds_is_only_moved_towards_them(level: float, low: float, high: float) -> None:
    factors = factors_of(level, strength=0.4, bounds=(0.4, 0.6))
    assert low - 1e-6 <= factors.min() < low + 0.001 and high - 0.001 < factors.max() <= high + 1e-6


def test_fit_measures_bounds_that_were_not_given_and_keeps_given_ones() -> None:
    images = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8)
    measured, given = BatchBrightnessJitter(), BatchBrightnessJitter(bounds=(0.1, 0.2))
    for jitter in (measured, given):
        jitter.fit(images)
    assert measured.bounds == brightness_bounds(images)
    assert given.bounds == (0.1, 0.2)


def test_black_images_stay_black() -> None:
    black = torch.zeros(3, 1, 2, 2)
    assert torch.equal(BatchBrightnessJitter(bounds=(0.2, 0.8))(black), black)


def test_a_jitter_without_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has no bounds: give them, or call fit"):
        BatchBrightnessJitter()(torch.rand(2, 1, 2, 2))


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"strength=2 .*bounds=\(0.5, 0.1\)"):
        BatchBrightnessJitter(strength=2, bounds=(0.5, 0.1))
