"""The levels of repeated looks, against published boundaries and simulated races."""

import math

import numpy as np
import pytest
from scipy import stats

from ablations.spending import nominal_levels


@pytest.mark.parametrize(
    ("looks", "bounds"),
    [
        (1, [1.9600]),
        (2, [2.9626, 1.9686]),
        (3, [3.7103, 2.5114, 1.9930]),
        (5, [4.8769, 3.3570, 2.6803, 2.2898, 2.0310]),
    ],
)
def test_levels_are_the_published_boundaries(looks: int, bounds: list[float]) -> None:
    """Two-sided, alpha 0.05, equal steps: Reboussin, DeMets, Kim and Lan 2000, and the R package ldbounds."""
    levels = nominal_levels(tuple(range(1, looks + 1)), 0.05)
    assert [stats.norm.isf(level / 2) for level in levels] == pytest.approx(bounds, abs=6e-4)


@pytest.mark.parametrize("looks", [tuple(range(3, 21)), (4, 8, 40), tuple(range(2, 101))])
def test_all_looks_together_spend_alpha(looks: tuple[int, ...]) -> None:
    """On sums of normal steps, as the levels assume."""
    paths, alpha = 40_000, 0.05
    generator = np.random.default_rng(0)
    steps = np.sqrt(np.diff(looks, prepend=0))
    sums = np.cumsum(generator.normal(size=(paths, len(looks))) * steps, axis=1) / np.sqrt(looks)
    claims = (2 * stats.norm.sf(np.abs(sums)) <= nominal_levels(looks, alpha)).any(axis=1).mean()
    assert claims == pytest.approx(alpha, abs=3 * math.sqrt(alpha * (1 - alpha) / paths))


def test_levels_rise_over_the_looks_and_with_alpha() -> None:
    looks = tuple(range(3, 31))
    levels = [nominal_levels(looks, alpha) for alpha in (0.0005, 0.005, 0.05)]
    assert all(np.all(np.diff(of_alpha) >= 0) for of_alpha in levels)
    assert all(low <= high for low, high in zip(levels[0], levels[1], strict=True))
    assert all(low <= high for low, high in zip(levels[1], levels[2], strict=True))


def test_a_look_that_has_next_to_nothing_to_spend_claims_nothing() -> None:
    levels = nominal_levels(tuple(range(2, 201)), 0.05 / 50)
    assert levels[0] == 0
    assert 0 < levels[-1] < 0.05 / 50
