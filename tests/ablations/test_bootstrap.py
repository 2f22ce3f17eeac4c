"""Intervals by resampling, against plain loops, closed forms and simulated studies."""

import math

import numpy as np
import pytest
from scipy import stats

from ablations.statistics import Interval, crossed_difference, crossed_mean, mean_interval, probability_of_improvement


def nan_fields(interval: Interval) -> set[str]:
    return {name for name, value in vars(interval).items() if math.isnan(value)}


def test_probability_of_improvement_counts_the_pairs_that_win() -> None:
    with_, without = [3.0, 1.0, 2.0], [2.0, 0.0]
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in with_ for b in without]
    up = probability_of_improvement(with_, without, np.random.default_rng(0))
    down = probability_of_improvement(with_, without, np.random.default_rng(0), higher_is_better=False)
    assert (up.estimate, down.estimate) == pytest.approx((np.mean(wins), 1 - np.mean(wins)))
    assert up.low <= up.estimate <= up.high
    assert up.n == 2


def test_probability_of_improvement_is_the_percentiles_of_resampled_seeds() -> None:
    generator = np.random.default_rng(5)
    with_, without = generator.normal(0.5, 1, 12), generator.normal(0, 1, 9)
    ours = probability_of_improvement(with_, without, np.random.default_rng(0), resamples=20000)
    drawn = [
        np.mean(generator.choice(with_, 12)[:, None] > generator.choice(without, 9)) for _ in range(20000)
    ]  # fmt: skip
    assert (ours.low, ours.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


def test_the_same_generator_gives_the_same_interval_and_another_one_another() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 8))
    first, again, other = (probability_of_improvement(a, b, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_probability_of_improvement_without_enough_seeds_has_no_interval() -> None:
    generator = np.random.default_rng(0)
    assert nan_fields(probability_of_improvement([1.0], [0.0, 0.5], generator)) == {"low", "high"}
    assert nan_fields(probability_of_improvement([], [0.0], generator)) == {"estimate", "low", "high"}


def test_probability_of_improvement_covers_the_true_one_with_twenty_seeds() -> None:
    generator = np.random.default_rng(2)
    true = stats.norm.cdf(0.5 / math.sqrt(2))
    intervals = [
        probability_of_improvement(generator.normal(0.5, 1, 20), generator.normal(0, 1, 20), generator, resamples=400)
        for _ in range(1000)
    ]
    assert np.mean([i.low <= true <= i.high for i in intervals]) == pytest.approx(0.945, abs=0.025)


def outcomes(generator: np.random.Generator, hard: np.ndarray, seeds: int, shift: float = 0.0) -> np.ndarray:
    """Right or wrong: an example's hardness, a seed's skill and what is peculiar to both decide; each a normal."""
    skill = generator.normal(shift, 0.15, (seeds, 1))
    return (skill + generator.normal(0, 0.6, (seeds, hard.size)) > hard).astype(float)


def accuracy(shift: float) -> float:
    """The mean of `outcomes` over all seeds and examples."""
    return float(stats.norm.cdf((1.2 + shift) / math.sqrt(1 + 0.15**2 + 0.6**2)))


@pytest.mark.parametrize(("seeds", "examples"), [(5, 200), (10, 100)])
def test_the_two_way_bootstrap_covers_the_mean_over_all_seeds_and_examples(seeds: int, examples: int) -> None:
    generator = np.random.default_rng(seeds)
    covered = []
    for _ in range(2000):
        hard = generator.normal(-1.2, 1, examples)
        interval = crossed_mean(outcomes(generator, hard, seeds), generator, resamples=200)
        covered.append(interval.low <= accuracy(0) <= interval.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("seeds", "examples"), [(5, 200), (10, 100)])
def test_the_two_way_bootstrap_covers_the_difference_of_two_rows(seeds: int, examples: int) -> None:
    generator = np.random.default_rng(seeds)
    covered = []
    for _ in range(2000):
        hard = generator.normal(-1.2, 1, examples)
        sides = outcomes(generator, hard, seeds, 0.2), outcomes(generator, hard, seeds + 2)
        interval = crossed_difference(*sides, generator, resamples=200)
        covered.append(interval.low <= accuracy(0.2) - accuracy(0) <= interval.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_seeds_that_agree_on_every_example_leave_the_interval_to_the_examples() -> None:
    """Then it is the t interval of a proportion."""
    right = np.repeat([[1.0] * 70 + [0.0] * 30], 6, axis=0)
    interval = crossed_mean(right, np.random.default_rng(0), resamples=20000)
    expected = mean_interval(right[0])
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_examples_that_are_alike_leave_the_interval_to_the_seeds() -> None:
    values = np.array([0.1, 0.4, 0.35, 0.6, 0.2])
    interval = crossed_mean(np.repeat(values[:, None], 40, axis=1), np.random.default_rng(0), resamples=20000)
    expected = mean_interval(values)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.03)


def test_pairs_of_seeds_leave_out_what_they_share() -> None:
    generator = np.random.default_rng(0)
    skill = generator.normal(0, 1, (8, 1))
    with_, without = skill + 0.1 + generator.normal(0, 0.1, (2, 8, 50))
    paired_interval = crossed_difference(with_, without, np.random.default_rng(1), paired=True)
    unpaired_interval = crossed_difference(with_, without, np.random.default_rng(1))
    assert paired_interval.half_width < unpaired_interval.half_width / 5
    assert paired_interval.estimate == pytest.approx(unpaired_interval.estimate)


def test_outcomes_without_any_spread_have_an_interval_without_width() -> None:
    assert crossed_mean(np.ones((3, 5)), np.random.default_rng(0)) == Interval(1.0, 1.0, 1.0, 3)


def test_one_seed_or_no_example_has_no_two_way_interval() -> None:
    generator = np.random.default_rng(0)
    assert nan_fields(crossed_mean(np.ones((1, 5)), generator)) == {"low", "high"}
    assert nan_fields(crossed_mean(np.ones((4, 0)), generator)) == {"estimate", "low", "high"}


def test_outcomes_that_do_not_fit_are_refused() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"the same examples, got arrays of \(3, 5\) and \(3, 4\)"):
        crossed_difference(np.ones((3, 5)), np.ones((3, 4)), generator)
    with pytest.raises(ValueError, match=r"the same seeds and examples, got arrays of \(3, 5\) and \(2, 5\)"):
        crossed_difference(np.ones((3, 5)), np.ones((2, 5)), generator, paired=True)
    with pytest.raises(ValueError, match=r"finite numbers \(seeds, examples\), got an array of \(5,\)"):
        crossed_mean(np.ones(5), generator)
    with pytest.raises(ValueError, match="finite numbers"):
        crossed_mean([[1.0, math.nan]], generator)
