"""The statistics, against scipy, naive loops, published tables and simulated studies."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ablations.statistics import (
    Difference,
    Interval,
    holm,
    mean_interval,
    sample_sd,
    seeds_needed,
    smallest_difference,
    verdict,
    welch,
)

SEEDS_PER_ARM = {
    0.10: [64, 17, 9, 6, 4, 3, 2],
    0.15: [143, 37, 17, 10, 6, 3, 2],
    0.20: [253, 64, 29, 17, 9, 4, 3],
    0.23: [334, 85, 38, 22, 11, 5, 3],
    0.30: [567, 143, 64, 37, 17, 7, 3],
}
DIFFERENCES = [0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0]


def naive_holm(p_values: list[float]) -> list[float]:
    """Step down one hypothesis at a time, as Holm's paper words it."""
    adjusted = [math.nan] * len(p_values)
    left = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    before = 0.0
    while left:
        smallest = min(left, key=lambda i: p_values[i])
        before = min(1.0, max(before, len(left) * p_values[smallest]))
        adjusted[smallest] = before
        left.remove(smallest)
    return adjusted


def nan_fields(record: Interval | Difference) -> set[str]:
    return {name for name, value in vars(record).items() if math.isnan(value)}


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_mean_interval_is_that_of_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(93, 0.2, n)
    interval = mean_interval(values, confidence=0.9)
    expected = stats.t.interval(0.9, n - 1, values.mean(), stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-12)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.half_width == pytest.approx((expected[1] - expected[0]) / 2)
    assert interval.n == n


@pytest.mark.parametrize(("n_a", "n_b"), [(2, 2), (3, 5), (10, 4), (50, 50)])
def test_welch_is_that_of_scipy(n_a: int, n_b: int) -> None:
    generator = np.random.default_rng(10 * n_a + n_b)
    a, b = generator.normal(93.3, 0.2, n_a), generator.normal(93, 0.6, n_b)
    difference = welch(a, b, confidence=0.9)
    expected = stats.ttest_ind(a, b, equal_var=False)
    interval = expected.confidence_interval(0.9)
    assert difference.estimate == pytest.approx(a.mean() - b.mean())
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert difference.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert difference.df == pytest.approx(expected.df, rel=1e-9)
    assert (difference.n_a, difference.n_b) == (n_a, n_b)


def test_welch_with_the_sides_swapped_is_the_negative() -> None:
    a, b = [1.0, 2.0, 4.0], [1.5, 1.0]
    one, other = welch(a, b), welch(b, a)
    assert (one.estimate, one.low, one.high) == pytest.approx((-other.estimate, -other.high, -other.low))
    assert one.p == pytest.approx(other.p)


def test_equal_scores_have_a_spread_of_exactly_zero() -> None:
    values = [0.1 * 3] * 7  # their sum rounds, so a plain standard deviation is not 0
    assert np.std(values) > 0
    assert sample_sd(values) == 0
    assert mean_interval(values) == Interval(values[0], values[0], values[0], 7)


def test_constant_sides_give_an_interval_without_width() -> None:
    assert welch([0.3] * 3, [0.3] * 5) == Difference(0, 0, 0, 1.0, math.inf, 3, 5)
    assert welch([0.5] * 3, [0.25] * 3) == Difference(0.25, 0.25, 0.25, 0.0, math.inf, 3, 3)


def test_constant_sides_that_differ_by_rounding_are_equal() -> None:
    assert 0.3 * 3 != 0.9
    difference = welch([0.3 * 3] * 3, [0.9, 0.3 * 3, 0.9])
    assert difference == Difference(0, 0, 0, 1.0, math.inf, 3, 3)
    assert verdict(difference, 1.0, 0.0, 0.0).startswith("undecided (more than 1,000")


def test_one_constant_side_leaves_the_test_to_the_other() -> None:
    difference = welch([1.0, 1.0, 1.0], [0.5, 0.7, 0.9, 0.8])
    assert difference.df == pytest.approx(3)
    assert difference.p == pytest.approx(stats.ttest_1samp([0.5, 0.7, 0.9, 0.8], 1.0).pvalue)


def test_tiny_spreads_do_not_underflow() -> None:
    a, b = np.array([1.0, 2.0, 4.0]), np.array([1.5, 1.0, 0.0])
    assert welch(a * 1e-100, b * 1e-100).p == pytest.approx(welch(a, b).p)


def test_one_seed_has_a_mean_and_nothing_else() -> None:
    interval = mean_interval([93.0])
    assert (interval.estimate, interval.n) == (93.0, 1)
    assert nan_fields(interval) == {"low", "high"}
    assert math.isnan(sample_sd([93.0]))


def test_no_seed_has_nothing() -> None:
    assert nan_fields(mean_interval([])) == {"estimate", "low", "high"}
    assert nan_fields(welch([], [1.0, 2.0])) == {"estimate", "low", "high", "p", "df"}


@pytest.mark.parametrize(("with_", "without"), [([2.0], [1.0, 1.1]), ([2.0, 2.1], [1.0]), ([2.0], [1.0])])
def test_a_difference_from_one_seed_has_no_interval(with_: list[float], without: list[float]) -> None:
    difference = welch(with_, without)
    assert difference.estimate == pytest.approx(np.mean(with_) - np.mean(without))
    assert nan_fields(difference) == {"low", "high", "p", "df"}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"must be finite, got \[1\.0, (nan|inf)\]"):
        mean_interval([1.0, bad])
    with pytest.raises(ValueError, match="Drop failed seeds"):
        welch([1.0, 2.0], [1.0, bad])


@pytest.mark.parametrize("n", [5, 10])
def test_mean_interval_covers_the_mean_as_often_as_it_says(n: int) -> None:
    samples = np.random.default_rng(n).normal(93, 0.15, (8000, n))
    intervals = [mean_interval(sample) for sample in samples]
    assert np.mean([i.low <= 93 <= i.high for i in intervals]) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("sd", [0.1, 0.5])
def test_welch_covers_the_difference_as_often_as_it_says_with_unequal_spreads(n: int, sd: float) -> None:
    generator = np.random.default_rng(n)
    pairs = zip(generator.normal(93.4, 0.15, (8000, n)), generator.normal(93, sd, (8000, n)), strict=True)
    differences = [welch(a, b) for a, b in pairs]
    assert np.mean([d.low <= 0.4 <= d.high for d in differences]) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("compared_to_the_row_before", [True, False])
def test_without_effect_at_most_one_table_in_twenty_claims_something(compared_to_the_row_before: bool) -> None:
    tables, tricks, seeds = 2000, 8, 5
    scores = np.random.default_rng(1).normal(93, 0.15, (tables, tricks + 1, seeds))
    claims = 0
    for table in scores:
        before = table[:-1] if compared_to_the_row_before else [table[0]] * tricks
        differences = [welch(row, other) for row, other in zip(table[1:], before, strict=True)]
        adjusted = holm([difference.p for difference in differences])
        words = [verdict(d, p, 0.15, 0.15, comparisons=tricks) for d, p in zip(differences, adjusted, strict=True)]
        claims += any(word in ("gain", "loss") for word in words)
    three_standard_errors = 3 * math.sqrt(0.05 * 0.95 / tables)
    assert 0.01 < claims / tables <= 0.05 + three_standard_errors


def test_holm_is_the_naive_step_down() -> None:
    generator = np.random.default_rng(2)
    for size in range(12):
        p_values = generator.uniform(0, 1, size) ** 3
        p_values[generator.uniform(size=size) < 0.2] = math.nan
        if size > 3:
            p_values[1] = p_values[3]
        assert holm(p_values) == pytest.approx(naive_holm(list(p_values)), nan_ok=True)


def test_holm_of_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_passes_over_nan() -> None:
    assert holm([0.02, math.nan, 0.01]) == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)
    assert holm([]) == []


@pytest.mark.parametrize("sd", SEEDS_PER_ARM)
def test_seeds_needed_is_the_reference_table(sd: float) -> None:
    assert [seeds_needed(difference, sd, sd) for difference in DIFFERENCES] == SEEDS_PER_ARM[sd]


def test_seeds_needed_finds_the_difference_with_the_power_it_says() -> None:
    generator = np.random.default_rng(3)
    for sd_with, sd_without in [(0.15, 0.15), (0.1, 0.3)]:
        n = seeds_needed(-0.2, sd_with, sd_without)
        assert n == seeds_needed(0.2, sd_without, sd_with)
        shape = (20000, n)
        p = stats.ttest_ind(
            generator.normal(0.2, sd_with, shape), generator.normal(0, sd_without, shape), axis=1, equal_var=False
        ).pvalue
        fewer = (20000, n - 1)
        p_fewer = stats.ttest_ind(
            generator.normal(0.2, sd_with, fewer), generator.normal(0, sd_without, fewer), axis=1, equal_var=False
        ).pvalue
        assert np.mean(p_fewer < 0.05) < 0.805
        assert np.mean(p < 0.05) > 0.795


def test_seeds_needed_grows_as_effects_shrink_and_spreads_and_rows_grow() -> None:
    """Also where scipy's noncentral distributions give NaN, which would let the search stop at the wrong end."""
    effects = [seeds_needed(effect, 1, 1) for effect in np.geomspace(100, 0.01, 400)]
    assert all(a <= b for a, b in itertools.pairwise(effects))
    assert (effects[0], effects[-1]) == (2, 156979)
    alphas = [seeds_needed(1, 1, 1, alpha=0.05 / rows) for rows in range(1, 200)]
    assert all(a <= b for a, b in itertools.pairwise(alphas))
    assert [seeds_needed(effect, 1, 1, alpha=0.05 / 200) for effect in (5, 13, 60, 79, 81, 1e200)] == [5, 3, 3, 3, 2, 2]


def test_no_number_of_seeds_finds_no_difference() -> None:
    assert seeds_needed(0, 0.1, 0.1) is None
    assert seeds_needed(1e-12, 0.1, 0.1) is None


def test_without_spread_two_seeds_are_enough() -> None:
    assert seeds_needed(1e-12, 0, 0) == 2


@pytest.mark.parametrize("arguments", [(math.nan, 1, 1), (1, math.nan, 1), (1, 1, -1)])
def test_seeds_needed_refuses_what_is_not_a_spread(arguments: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="two standard deviations of at least 0, got difference="):
        seeds_needed(*arguments)


@pytest.mark.parametrize(("n", "in_sd"), [(3, 3.07), (5, 2.02), (10, 1.32), (20, 0.91), (30, 0.74)])
def test_smallest_difference_is_the_reference_one(n: int, in_sd: float) -> None:
    assert smallest_difference(n, 1.0) == pytest.approx(in_sd, abs=0.006)
    assert smallest_difference(n, 0.15) == pytest.approx(0.15 * smallest_difference(n, 1.0))


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 8])
def test_smallest_difference_is_the_inverse_of_seeds_needed(alpha: float) -> None:
    for n in (2, 3, 8, 200):
        smallest = smallest_difference(n, 0.2, alpha=alpha)
        assert seeds_needed(smallest * 1.001, 0.2, 0.2, alpha=alpha) == n
        assert seeds_needed(smallest * 0.99, 0.2, 0.2, alpha=alpha) > n


def test_one_seed_finds_no_difference() -> None:
    assert smallest_difference(1, 0.15) == math.inf


@pytest.mark.parametrize(("estimate", "higher_is_better"), [(0.5, True), (-0.5, False)])
def test_a_decided_row_is_a_gain_in_the_good_direction_and_a_loss_in_the_other(
    estimate: float, higher_is_better: bool
) -> None:
    difference = Difference(estimate, estimate - 0.1, estimate + 0.1, 0.001, 8.0, 5, 5)
    assert verdict(difference, 0.05, 0.1, 0.1, higher_is_better=higher_is_better) == "gain"
    assert verdict(difference, 0.05, 0.1, 0.1, higher_is_better=not higher_is_better) == "loss"


def test_the_verdict_follows_from_the_adjusted_p_not_from_the_interval() -> None:
    difference = Difference(0.15, 0.01, 0.29, 0.04, 8.0, 5, 5)
    assert verdict(difference, 0.0501, 0.15, 0.15) == "undecided (about 17 seeds would decide it)"
    assert verdict(difference, 0.0499, 0.15, 0.15) == "gain"
    assert verdict(difference, 0.02, 0.15, 0.15, alpha=0.01).startswith("undecided")


def test_the_number_of_seeds_grows_with_the_number_of_rows() -> None:
    difference = Difference(0.15, 0.01, 0.29, 0.04, 8.0, 5, 5)
    needed = seeds_needed(0.15, 0.15, 0.15, alpha=0.05 / 8)
    assert needed is not None and needed > 17
    assert f"about {needed} seeds" in verdict(difference, 0.32, 0.15, 0.15, comparisons=8)


@pytest.mark.parametrize("estimate", [0.0, 0.001])
def test_an_undecided_row_names_no_number_that_nobody_would_train(estimate: float) -> None:
    difference = Difference(estimate, -0.1, 0.1, 1.0, 8.0, 5, 5)
    assert verdict(difference, 1.0, 0.15, 0.15) == "undecided (more than 1,000 seeds would be needed)"


def test_an_undecided_row_always_asks_for_more_seeds_than_it_has() -> None:
    generator = np.random.default_rng(4)
    for _ in range(300):
        rows = [(generator.normal(0.2, 0.15, 5), generator.normal(0, 0.15, 5)) for _ in range(4)]
        differences = [welch(*row) for row in rows]
        for (a, b), d, p in zip(rows, differences, holm([d.p for d in differences]), strict=True):
            if p > 0.05:
                needed = seeds_needed(d.estimate, sample_sd(a), sample_sd(b), alpha=0.05 / 4)
                assert needed is None or needed > 5


def test_rows_without_enough_seeds_say_so() -> None:
    nan = math.nan
    assert verdict(welch([1.0], [2.0, 3.0]), nan, nan, 0.5) == "one seed only"
    assert verdict(welch([1.0, 2.0], [2.0]), nan, 0.5, nan) == "one seed only"
    assert verdict(welch([], [2.0, 3.0]), nan, nan, 0.5) == "no result"
    assert verdict(welch([1.0], []), nan, nan, nan) == "no result"
