"""The statistics, against scipy, naive loops, published tables and simulated studies."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from ablations.statistics import (
    Difference,
    Interval,
    holm,
    holm_intervals,
    mean_interval,
    paired,
    pairs_needed,
    sample_sd,
    seeds_needed,
    smallest_difference,
    smallest_paired_difference,
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
    assert welch([0.3] * 3, [0.3] * 5) == Difference(0, 0, 0, 1.0, math.inf, 3, 5, error=0.0)
    difference = welch([0.5] * 3, [0.25] * 3)
    assert difference == Difference(0.25, 0.25, 0.25, 0.0, math.inf, 3, 3, error=0.0)
    assert (difference.at(0.001).low, difference.at(0.001).high) == (0.25, 0.25)


def test_constant_sides_that_differ_by_rounding_are_equal() -> None:
    assert 0.3 * 3 != 0.9
    difference = welch([0.3 * 3] * 3, [0.9, 0.3 * 3, 0.9])
    assert difference == Difference(0, 0, 0, 1.0, math.inf, 3, 3, error=0.0)
    assert verdict(difference, 0.0, 0.0).startswith("undecided (more than 1,000")


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
    assert nan_fields(welch([], [1.0, 2.0])) == {"estimate", "low", "high", "p", "df", "error"}


@pytest.mark.parametrize(("with_", "without"), [([2.0], [1.0, 1.1]), ([2.0, 2.1], [1.0]), ([2.0], [1.0])])
def test_a_difference_from_one_seed_has_no_interval(with_: list[float], without: list[float]) -> None:
    difference = welch(with_, without)
    assert difference.estimate == pytest.approx(np.mean(with_) - np.mean(without))
    assert nan_fields(difference) == {"low", "high", "p", "df", "error"}
    assert nan_fields(difference.at(0.01)) == {"low", "high", "p", "df", "error"}


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


def draw_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.normal(0, 0.15, shape)


def draw_skewed(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 0.15 * (1 - generator.exponential(1, shape))  # a few seeds are much worse than the others


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize(
    ("draw", "spreads"), [(draw_normal, (1.0, 1.0)), (draw_normal, (1.0, 3.0)), (draw_skewed, (1.0, 1.0))]
)
@pytest.mark.parametrize("compared_to_the_row_before", [True, False])
def test_without_effect_at_most_one_table_in_twenty_claims_something(
    seeds: int,
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray],
    spreads: tuple[float, float],
    compared_to_the_row_before: bool,
) -> None:
    """The p-values are those of scipy, all tables at once: another test sees that ours are the same."""
    tables, tricks = 4000, 8
    scores = draw(np.random.default_rng(1), (tables, tricks + 1, seeds))
    scores *= np.resize(spreads, tricks + 1)[:, None]
    before = scores[:, :-1] if compared_to_the_row_before else scores[:, :1]
    p = stats.ttest_ind(scores[:, 1:], before, axis=2, equal_var=False).pvalue
    claims = np.mean([min(holm(of_table)) <= 0.05 for of_table in p])
    three_standard_errors = 3 * math.sqrt(0.05 * 0.95 / tables)
    assert 0.005 < claims <= 0.05 + three_standard_errors


def test_the_verdicts_of_a_table_claim_what_holm_rejects() -> None:
    generator = np.random.default_rng(7)
    found = set()
    for _ in range(200):
        rows = generator.normal(0, 0.15, (9, 5)) + 0.15 * generator.integers(0, 5, (9, 1))
        differences = [welch(row, other) for row, other in itertools.pairwise(rows)]
        intervals = holm_intervals(differences, 0.05)
        for difference, interval, p in zip(differences, intervals, holm([d.p for d in differences]), strict=True):
            words = verdict(interval, 0.15, 0.15, comparisons=8)
            claim = "gain" if difference.estimate > 0 else "loss"
            assert words == claim if p <= 0.05 else words.startswith("undecided")
            assert interval.confidence >= 0.95
            found.add(words[:4])
    assert found == {"gain", "loss", "unde"}


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
    assert verdict(difference, 0.1, 0.1, higher_is_better=higher_is_better) == "gain"
    assert verdict(difference, 0.1, 0.1, higher_is_better=not higher_is_better) == "loss"


def test_the_verdict_follows_from_the_interval() -> None:
    assert verdict(Difference(0.15, -0.01, 0.31, 0.06, 8.0, 5, 5), 0.15, 0.15) == (
        "undecided (about 17 seeds would decide it)"
    )
    assert verdict(Difference(0.15, 0.01, 0.29, 0.04, 8.0, 5, 5), 0.15, 0.15) == "gain"


def test_the_number_of_seeds_grows_with_the_number_of_rows() -> None:
    difference = Difference(0.15, -0.01, 0.31, 0.04, 8.0, 5, 5)
    needed = seeds_needed(0.15, 0.15, 0.15, alpha=0.05 / 8)
    assert needed is not None and needed > 17
    assert f"about {needed} seeds" in verdict(difference, 0.15, 0.15, comparisons=8)


def test_the_number_of_seeds_of_a_paired_row_is_for_the_paired_test() -> None:
    difference = paired([1.0, 2.0, 3.1, 4.2], [1.1, 1.8, 2.8, 4.3])
    needed = pairs_needed(difference.estimate, sample_sd([-0.1, 0.2, 0.3, -0.1]), alpha=0.05 / 3)
    assert verdict(difference, 1.3, 1.3, comparisons=3) == f"undecided (about {needed} seeds would decide it)"
    assert needed != seeds_needed(difference.estimate, 1.3, 1.3, alpha=0.05 / 3)


@pytest.mark.parametrize("estimate", [0.0, 0.001])
def test_an_undecided_row_names_no_number_that_nobody_would_train(estimate: float) -> None:
    difference = Difference(estimate, -0.1, 0.1, 1.0, 8.0, 5, 5)
    assert verdict(difference, 0.15, 0.15) == "undecided (more than 1,000 seeds would be needed)"


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
    assert verdict(welch([1.0], [2.0, 3.0]), nan, 0.5) == "one seed only"
    assert verdict(welch([1.0, 2.0], [2.0]), 0.5, nan) == "one seed only"
    assert verdict(welch([], [2.0, 3.0]), nan, 0.5) == "no result"
    assert verdict(welch([1.0], []), nan, nan) == "no result"


@pytest.mark.parametrize("n", [2, 5, 30])
def test_paired_is_that_of_scipy(n: int) -> None:
    generator = np.random.default_rng(n)
    without = generator.normal(93, 0.6, n)
    with_ = without + generator.normal(0.1, 0.2, n)
    difference, expected = paired(with_, without, confidence=0.9), stats.ttest_rel(with_, without)
    interval = expected.confidence_interval(0.9)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert (difference.p, difference.df) == pytest.approx((expected.pvalue, n - 1), rel=1e-9)
    assert (difference.n_a, difference.n_b, difference.pairs) == (n, n, n)
    assert difference.error == pytest.approx(stats.sem(with_ - without))


def test_pairs_that_all_differ_alike_are_left_to_welch() -> None:
    """Three seeds on which one more test image is right are no certainty."""
    without = np.array([90.1, 90.5, 89.8])
    assert paired(without + 0.1, without) == welch(without + 0.1, without)
    assert paired(without, without).p == 1


def test_one_pair_has_a_difference_and_nothing_else() -> None:
    difference = paired([2.0], [1.5])
    assert (difference.estimate, difference.n_a) == (0.5, 1)
    assert nan_fields(difference) == {"low", "high", "p", "df", "error"}
    assert nan_fields(paired([], [])) == {"estimate", "low", "high", "p", "df", "error"}


def test_pairs_of_unequal_number_are_refused() -> None:
    with pytest.raises(ValueError, match="as many scores on both sides, got 2 and 3"):
        paired([1.0, 2.0], [1.0, 2.0, 3.0])


def test_the_interval_at_another_level_is_the_one_computed_at_it() -> None:
    a, b = [1.0, 2.0, 4.0], [1.5, 1.0]
    for made in (lambda c: welch(a, b, c), lambda c: paired(a[:2], b, c)):
        wide, expected = made(0.95).at(0.01), made(0.99)
        assert (wide.low, wide.high, wide.confidence) == pytest.approx((expected.low, expected.high, 0.99))
        assert (wide.estimate, wide.p, wide.df) == (expected.estimate, expected.p, expected.df)


def test_holm_intervals_of_a_worked_example() -> None:
    """p = 0.01 is compared with 0.05 / 3 and rejected, 0.03 with 0.05 / 2 and not, so 0.04 is not looked at."""
    differences = [Difference(1.0, math.nan, math.nan, p, 5.0, 3, 3, error=0.4) for p in (0.04, 0.01, 0.03)]
    unknown = welch([1.0], [2.0])
    levels = [0.05 / 2, 0.05 / 3, 0.05 / 2]
    *widened, last = holm_intervals([*differences, unknown], 0.05)
    assert [interval.confidence for interval in widened] == pytest.approx([1 - level for level in levels])
    assert [interval.high for interval in widened] == pytest.approx(
        [1 + 0.4 * stats.t.isf(level / 2, 5) for level in levels]
    )
    assert last is unknown


def test_pairs_needed_is_the_published_example() -> None:
    """An effect of half a standard deviation takes 34 pairs (G*Power 3.1, matched pairs, power 0.8, alpha 0.05)."""
    assert pairs_needed(0.5, 1.0) == 34
    assert pairs_needed(-0.1, 0.2) == 34
    assert (pairs_needed(0, 1.0), pairs_needed(1.0, 0)) == (None, 2)


@pytest.mark.parametrize("arguments", [(math.nan, 1), (1, math.nan), (1, -1)])
def test_pairs_needed_refuses_what_is_not_a_spread(arguments: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="a standard deviation of at least 0, got difference="):
        pairs_needed(*arguments)


def test_power_is_that_of_the_noncentral_t() -> None:
    """At the smallest difference that n seeds find, scipy's noncentral t is significant in 80 % of cases."""
    for n, df, found in [
        (5, 8, smallest_difference(5, 0.2) / (0.2 * math.sqrt(2 / 5))),
        (7, 6, smallest_paired_difference(7, 0.2) / (0.2 / math.sqrt(7))),
    ]:
        critical = stats.t.isf(0.025, df)
        assert stats.nct.sf(critical, df, found) == pytest.approx(0.8, abs=1e-4), n
    assert pairs_needed(smallest_paired_difference(7, 0.2) * 1.001, 0.2) == 7
    assert smallest_paired_difference(1, 0.2) == math.inf
