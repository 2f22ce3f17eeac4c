"""Interactions and Shapley values, against formulas, brute force and simulation."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ablations.interactions import Scores, contrast, interactions, shapley_value, shapley_values
from ablations.orders import trick_orders, visited_sets
from ablations.table_comparisons import Sample

NAMES = ("a", "b", "c", "d")


def study_of(subsets: list[tuple[str, ...]], orders: list[tuple[str, ...]] | None = None, **changes: Any) -> Any:
    rows = [{"index": index, "tricks": list(names)} for index, names in enumerate(subsets)]
    return {"rows": rows, "orders": orders, "higher_is_better": True, **changes}


def samples_of(values: Any, keys: list[str] | None = None) -> dict[int, Sample]:
    return {
        row: Sample(np.array(scores), tuple(range(len(scores))), frozenset([keys[row] if keys else str(row)]))
        for row, scores in enumerate(values)
    }


def pairs_of(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [subset for size in range(3) for subset in itertools.combinations(names, size)]


def noisy(generator: np.random.Generator, rows: int, seeds: int) -> Any:
    return generator.normal(90, 1, (rows, seeds))


def test_an_interaction_is_both_minus_either_plus_none() -> None:
    scores = noisy(np.random.default_rng(0), 4, 5)
    (found,) = interactions(study_of(pairs_of(("a", "b"))), samples_of(scores), 0.05)
    base, first, second, both = scores
    assert found.tricks == ("a", "b") and found.row == 3
    assert found.difference.estimate == pytest.approx(both.mean() - first.mean() - second.mean() + base.mean())
    variances = scores.var(axis=1, ddof=1) / 5
    df = variances.sum() ** 2 / (variances**2 / 4).sum()
    half = stats.t.ppf(0.975, df) * math.sqrt(variances.sum())
    assert found.difference.high - found.difference.estimate == pytest.approx(half)
    assert found.difference.p == pytest.approx(
        2 * stats.t.sf(abs(found.difference.estimate) / (half / stats.t.ppf(0.975, df)), df)
    )


def test_a_contrast_of_two_rows_is_the_test_of_scipy() -> None:
    values = noisy(np.random.default_rng(1), 2, 6)
    study = study_of([(), ("a",)])
    unpaired = contrast({1: 1.0, 0: -1.0}, Scores.of(study, samples_of(values)))
    expected = stats.ttest_ind(values[1], values[0], equal_var=False)
    assert (unpaired.p, unpaired.df) == (pytest.approx(expected.pvalue), pytest.approx(expected.df))
    assert unpaired.low == pytest.approx(expected.confidence_interval(0.95).low)
    for scores in (
        Scores.of(study, samples_of(values, keys=["same", "same"])),
        Scores.of({**study, "vary": ["split"]}, samples_of(values)),
    ):
        of_pairs = contrast({1: 1.0, 0: -1.0}, scores)
        assert of_pairs.p == pytest.approx(stats.ttest_rel(values[1], values[0]).pvalue)
        assert of_pairs.pairs == 6


def test_rows_that_share_trainings_cancel_what_their_seeds_have_in_common() -> None:
    """Test-time tricks on two trainings: the spread of the seeds leaves the interaction."""
    generator = np.random.default_rng(2)
    base, trained = noisy(generator, 2, 5)
    values = [
        base,
        trained,
        base + 0.5 + 0.01 * noisy(generator, 1, 5)[0],
        trained + 0.7 + 0.01 * noisy(generator, 1, 5)[0],
    ]
    study = study_of(pairs_of(("a", "b")))
    (found,) = interactions(study, samples_of(values, keys=["x", "y", "x", "y"]), 0.05)
    parts = [values[3] - values[1], values[0] - values[2]]
    variances = [np.var(part, ddof=1) / 5 for part in parts]
    assert found.difference.error == pytest.approx(math.sqrt(sum(variances)))
    (unpaired,) = interactions(study, samples_of(values), 0.05)
    assert unpaired.difference.error > 10 * found.difference.error


def test_a_seed_that_failed_in_one_row_leaves_its_pairs() -> None:
    values = noisy(np.random.default_rng(3), 2, 5)
    samples = samples_of(values, keys=["x", "x"])
    samples[1] = Sample(values[1][:4], (0, 1, 2, 4), frozenset(["x"]))
    found = contrast({1: 1.0, 0: -1.0}, Scores.of(study_of([(), ("a",)]), samples))
    assert found.estimate == pytest.approx(np.mean(values[1][:4] - values[0][[0, 1, 2, 4]]))


def test_an_ensemble_over_seeds_is_paired_with_the_mean_of_its_members() -> None:
    study = study_of([(), ("a",)])
    study["rows"][1]["group"] = 2
    samples = samples_of([[90.0, 91.0, 92.0, 90.0], [1.0]], keys=["x", "x"])
    samples[1] = Sample(np.array([93.0, 94.5]), (0, 2), frozenset(["x"]))
    found = contrast({1: 1.0, 0: -1.0}, Scores.of(study, samples))
    assert found.estimate == pytest.approx(np.mean([93.0 - 90.5, 94.5 - 91.0]))
    assert found.pairs == 2


def test_scores_without_spread_are_certain_and_pairs_without_spread_are_not() -> None:
    study = study_of([(), ("a",)])
    certain = contrast({1: 1.0, 0: -1.0}, Scores.of(study, samples_of([[0.9] * 3, [0.3 * 3] * 3])))
    assert (certain.estimate, certain.p, certain.error) == (0.0, 1.0, 0.0)
    values = [[90.0, 91.0, 92.0], [91.0, 92.0, 93.0]]
    fallback = contrast({1: 1.0, 0: -1.0}, Scores.of(study, samples_of(values, keys=["x", "x"])))
    assert fallback.p == pytest.approx(stats.ttest_ind(*values, equal_var=False).pvalue)


def test_what_has_no_scores_or_one_seed_claims_nothing() -> None:
    study = study_of(pairs_of(("a", "b")))
    (none,) = interactions(study, samples_of([[90.0, 91.0], [], [90.0, 92.0], [91.0, 92.0]]), 0.05)
    assert none.verdict == "no result" and math.isnan(none.difference.estimate)
    (one,) = interactions(study, samples_of([[90.0], [91.0], [92.0], [94.0]]), 0.05)
    assert (one.verdict, one.difference.estimate) == ("one seed only", 1.0)
    assert math.isnan(one.p_adjusted)


def test_the_verdict_on_an_interaction_follows_the_direction_of_the_metric() -> None:
    values = [[90.0, 90.1, 90.2], [91.0, 91.1, 91.2], [92.0, 92.2, 92.1], [99.0, 99.1, 99.2]]
    for higher, words in ((True, "more than the sum"), (False, "less than the sum")):
        study = study_of(pairs_of(("a", "b")), higher_is_better=higher)
        assert interactions(study, samples_of(values), 0.05)[0].verdict == words


def test_few_tricks_join_in_every_order_and_many_in_different_orders() -> None:
    assert sorted(trick_orders("abc", 8)) == sorted(itertools.permutations("abc"))
    drawn = trick_orders(NAMES, 8)
    assert len(set(drawn)) == 8 and all(sorted(order) == sorted(NAMES) for order in drawn)
    assert trick_orders(NAMES, 12)[:8] == drawn == trick_orders(NAMES, 8)


def test_every_order_is_drawn_about_equally_often() -> None:
    first = [order[0] for order in trick_orders(tuple("abcdefgh"), 4000)]
    counts = [first.count(name) for name in "abcdefgh"]
    assert stats.chisquare(counts).pvalue > 0.001


def test_the_sets_of_an_order_are_its_beginnings_in_the_order_of_the_study() -> None:
    assert visited_sets("abc", [("c", "a", "b"), ("a", "c", "b")]) == [
        (), ("a",), ("c",), ("a", "c"), ("a", "b", "c"),
    ]  # fmt: skip


def brute_force(name: str, means: dict[frozenset[str], float]) -> float:
    """The Shapley value by its definition over sets (Shapley 1953)."""
    others, total = [other for other in NAMES if other != name], 0.0
    for size in range(len(NAMES)):
        for before in itertools.combinations(others, size):
            weight = math.factorial(size) * math.factorial(len(NAMES) - size - 1) / math.factorial(len(NAMES))
            total += weight * (means[frozenset([*before, name])] - means[frozenset(before)])
    return total


def all_orders() -> tuple[Any, list[tuple[str, ...]]]:
    orders = list(itertools.permutations(NAMES))
    subsets = visited_sets(NAMES, orders)
    return study_of(subsets, orders), subsets


def test_with_all_orders_values_are_those_of_the_definition_and_sum_to_the_whole_gain() -> None:
    study, subsets = all_orders()
    scores = noisy(np.random.default_rng(4), len(subsets), 3)
    means = {frozenset(names): values.mean() for names, values in zip(subsets, scores, strict=True)}
    values = shapley_values(study, samples_of(scores), 0.05)
    assert [value.trick for value in values] == list(NAMES)
    for value in values:
        assert value.value.estimate == pytest.approx(brute_force(value.trick, means))
    assert sum(value.value.estimate for value in values) == pytest.approx(means[frozenset(NAMES)] - means[frozenset()])


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_the_extremes_are_those_of_a_loop_over_the_orders(higher_is_better: bool) -> None:
    """Where lower is better, the deepest fall is the largest gain."""
    orders = trick_orders(NAMES, 8)
    subsets = visited_sets(NAMES, orders)
    scores = noisy(np.random.default_rng(5), len(subsets), 3)
    means = {frozenset(names): values.mean() for names, values in zip(subsets, scores, strict=True)}
    study = study_of(subsets, orders, higher_is_better=higher_is_better)
    for value in shapley_values(study, samples_of(scores), 0.05):
        gains = {}
        for order in orders:
            before = order[: order.index(value.trick)]
            gains[before] = means[frozenset([*before, value.trick])] - means[frozenset(before)]
        assert value.value.estimate == pytest.approx(
            np.mean([gains[order[: order.index(value.trick)]] for order in orders])
        )
        extremes = min(gains.values()), max(gains.values())
        assert (value.smallest, value.largest) == (extremes if higher_is_better else extremes[::-1])
        assert (gains[value.smallest_after], gains[value.largest_after]) == (value.smallest, value.largest)


def test_one_order_of_many_tells_nothing_about_the_others() -> None:
    orders = trick_orders(NAMES, 1)
    subsets = visited_sets(NAMES, orders)
    values = shapley_values(study_of(subsets, orders), samples_of(noisy(np.random.default_rng(6), 5, 4)), 0.05)
    assert {value.verdict for value in values} == {"one order only"}
    assert all(math.isnan(value.value.low) and math.isnan(value.p_adjusted) for value in values)


@pytest.mark.parametrize("spread_of_orders", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("count", [8, 24])
def test_intervals_of_shapley_values_cover_the_true_value(spread_of_orders: float, count: int) -> None:
    """True means that interact as much as asked; the draw of orders and the seeds are both left to chance."""
    generator = np.random.default_rng(7)
    every, runs = list(itertools.permutations(NAMES)), 300
    covered = 0
    for _ in range(runs):
        orders = [every[place] for place in generator.permutation(len(every))[:count]]
        subsets = visited_sets(NAMES, every)
        means = {frozenset(names): spread_of_orders * generator.normal() for names in subsets}
        truth = brute_force("b", means)
        visited = visited_sets(NAMES, orders)
        scores = [means[frozenset(names)] + generator.normal(0, 1, 4) for names in visited]
        found = shapley_value("b", orders, Scores.of(study_of(visited), samples_of(scores)))
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / runs <= 0.99
