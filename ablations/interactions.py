"""The numbers of studies that look at tricks together: interactions of pairs, and Shapley values.

Both are sums of row means with weights (contrasts). Rows that share trainings, and all rows of a study whose seeds vary
the split, rise and fall together from seed to seed, so their weighted sum is taken seed by seed; the other rows vary
each by itself.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from ablations.orders import Order
from ablations.statistics import Difference, direction, holm, holm_intervals, welch
from ablations.statistics.intervals import t_value
from ablations.table_comparisons import Sample
from ablations.table_records import Interaction, ShapleyValue

_ROUNDING = 1e-14
"""What, next to a mean, counts as no spread."""


@dataclass(frozen=True)
class Scores:
    """The scores of a study, for sums over its rows.

    Args:
        samples: by row: what there is of it.
        groups: by row: how many consecutive seeds make one score of it.
        rows: by set of tricks: the row that has them.
        split_varies: whether each seed has a split of its own, which makes equal seeds of all rows belong together.
    """

    samples: Mapping[int, Sample]
    groups: Mapping[int, int]
    rows: Mapping[frozenset[str], int]
    split_varies: bool

    @classmethod
    def of(cls, study: Mapping[str, Any], samples: Mapping[int, Sample]) -> "Scores":
        """Return the scores behind a `study.json`."""
        rows = {frozenset(row.get("tricks", ())): row["index"] for row in study["rows"]}
        groups = {row["index"]: row.get("group", 1) for row in study["rows"]}
        return cls(samples, groups, rows, "split" in study.get("vary", ()))

    def mean(self, tricks: Sequence[str]) -> float:
        """Return the mean score with these tricks; NaN without any score."""
        values = self.samples.get(self.rows[frozenset(tricks)], Sample()).values
        return float(values.mean()) if values.size else math.nan


def contrast(weights: Mapping[int, float], scores: Scores, confidence: float = 0.95) -> Difference:
    """Return the weighted sum of row means, with the t interval of its seeds.

    Welch's test for more than two rows: the variances of independent parts add, and the degrees of freedom are those of
    Satterthwaite 1946, Biometrics Bulletin 2. Two rows with the weights 1 and -1 give Welch's test itself or, if they
    belong together, the t test of pairs.

    Args:
        weights: by row.
        scores: the scores; a row without any makes everything NaN.
        confidence: that of the interval.
    """
    parts = list(_parts({row: weight for row, weight in weights.items() if weight}, scores))
    if not parts:
        return Difference(0.0, 0.0, 0.0, 1.0, math.inf, 0, 0, 0.0, confidence)
    counts = [values.size for values in parts]
    if min(counts) == 0:
        return welch([], [], confidence)
    estimate = sum(float(values.mean()) for values in parts)
    if min(counts) < 2:
        return Difference(estimate, math.nan, math.nan, math.nan, math.nan, min(counts), min(counts))
    variances = [float(values.var(ddof=1)) / values.size for values in parts]
    rounding = _ROUNDING * sum(abs(float(values.mean())) for values in parts)
    df = _degrees_of_freedom(variances, [count - 1 for count in counts])
    difference = _difference(estimate, math.sqrt(sum(variances)), df, min(counts), rounding)
    return replace(difference.at(1 - confidence), pairs=counts[0] if len(parts) == 1 else 0)


def _parts(weights: Mapping[int, float], scores: Scores) -> Iterator[np.ndarray]:
    """Yield the weighted scores of each part that varies by itself, seed by seed."""
    for rows in _together(list(weights), scores):
        values = _by_seed(rows, weights, scores)
        if len(rows) > 1 and values.size > 1 and values.std() <= _ROUNDING * np.abs(values).max():
            yield from (_by_seed([row], weights, scores) for row in rows)  # no spread to judge by, as in `paired`
        else:
            yield values


def _together(rows: list[int], scores: Scores) -> Iterator[list[int]]:
    """Yield the rows whose scores belong together; where they are made of unequally many seeds, each by itself."""
    groups: dict[Any, list[int]] = {}
    for row in rows:
        keys = scores.samples.get(row, Sample()).keys
        groups.setdefault("split" if scores.split_varies else keys or row, []).append(row)
    for together in groups.values():
        sizes = {scores.groups[row] for row in together} - {1}
        yield from [together] if len(sizes) < 2 else ([row] for row in together)


def _by_seed(rows: list[int], weights: Mapping[int, float], scores: Scores) -> np.ndarray:
    """Return the weighted sum of some rows for every seed, or group of seeds, that all of them have."""
    size = max(scores.groups[row] for row in rows)
    of_rows = [scores.samples.get(row, Sample()).by_group(1 if scores.groups[row] == size else size) for row in rows]
    seeds = sorted(set.intersection(*(set(of_row) for of_row in of_rows)))
    return sum(
        (weights[row] * np.array([of_row[seed] for seed in seeds]) for row, of_row in zip(rows, of_rows, strict=True)),
        np.zeros(len(seeds)),
    )


def _degrees_of_freedom(variances: Sequence[float], degrees: Sequence[float]) -> float:
    """Satterthwaite's degrees of freedom of a sum; infinite where nothing varies."""
    below = sum(variance**2 / df for variance, df in zip(variances, degrees, strict=True))
    return sum(variances) ** 2 / below if below > 0 else math.inf


def _difference(estimate: float, error: float, df: float, n: int, rounding: float) -> Difference:
    """Return an estimate with its p; one without spread is certain, up to rounding."""
    if error <= rounding:
        estimate = 0.0 if abs(estimate) <= rounding else estimate
        return Difference(estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0, math.inf, n, n, 0.0)
    p = 2 * float(special.stdtr(df, -abs(estimate) / error))
    half = t_value(df, 0.05) * error
    return Difference(estimate, estimate - half, estimate + half, p, df, n, n, error)


def interactions(study: Mapping[str, Any], samples: Mapping[int, Sample], alpha: float) -> tuple[Interaction, ...]:
    """Return what each pair of tricks does beyond the sum of the two.

    The score with both, minus those with either, plus that of the base; Holm's method adjusts over all pairs.

    Args:
        study: `study.json` of a study in mode `pairs`.
        samples: by row: what there is of it.
        alpha: the probability of any claim where nothing interacts.
    """
    scores = Scores.of(study, samples)
    pairs = [row for row in study["rows"] if len(row.get("tricks", ())) == 2]
    found = []
    for row in pairs:
        first, second = row["tricks"]
        signs = {(first, second): 1.0, (first,): -1.0, (second,): -1.0, (): 1.0}
        found.append(contrast({scores.rows[frozenset(names)]: sign for names, sign in signs.items()}, scores))
    words = _words(("more than the sum", "less than the sum"), study["higher_is_better"])
    adjusted, widened = holm([difference.p for difference in found]), holm_intervals(found, alpha)
    return tuple(
        Interaction(row["index"], tuple(row["tricks"]), difference, p, words(difference))
        for row, difference, p in zip(pairs, widened, adjusted, strict=True)
    )


def shapley_values(study: Mapping[str, Any], samples: Mapping[int, Sample], alpha: float) -> tuple[ShapleyValue, ...]:
    """Return each trick's Shapley value: its gain at the place where it joins, averaged over the study's orders.

    Castro et al. 2009, Computers & Operations Research 36, for sampled orders. Holm's method adjusts over all tricks.

    Args:
        study: `study.json` of a study in mode `shapley`.
        samples: by row: what there is of it.
        alpha: the probability of any claim where no trick does anything.
    """
    scores = Scores.of(study, samples)
    orders = [tuple(order) for order in study["orders"]]
    names = max((row.get("tricks", ()) for row in study["rows"]), key=len)
    found = [shapley_value(name, orders, scores) for name in names]
    words = _words(("gain", "loss"), study["higher_is_better"])
    adjusted, widened = holm([difference.p for difference in found]), holm_intervals(found, alpha)
    values = []
    for name, difference, p in zip(names, widened, adjusted, strict=True):
        gains = [(scores.mean([*before, name]) - scores.mean(before), before) for before in _joined(name, orders)]
        known = [gain for gain in gains if math.isfinite(gain[0])] or [(math.nan, ())]
        smallest, largest = min(known, key=_size), max(known, key=_size)
        if not study["higher_is_better"]:
            smallest, largest = largest, smallest
        values.append(ShapleyValue(name, difference, p, words(difference), *smallest, *largest))
    return tuple(values)


def shapley_value(name: str, orders: Sequence[Order], scores: Scores) -> Difference:
    """Return the mean over orders of a trick's marginal gain, with an interval that holds both sources of chance.

    The variance of the seeds is that of the contrast which the mean over orders is. To it comes, unless all orders are
    there, what the draw of orders adds: the variance of the gains between orders less what seeds put into it, divided
    by the number of orders, and times the share of all orders that was not drawn.

    With 4 tricks that interact at random, 95 % intervals covered the true value in 94 to 96 of 100 simulated studies
    from 8 orders on, and in 91 with 4 orders.

    Args:
        name: the trick.
        orders: the orders that were drawn, all different.
        scores: the scores of all sets of tricks that the orders pass through.
    """
    gains = [_marginal(name, before, scores) for before in _joined(name, orders)]
    weights = _mean_weights(gains)
    by_seeds = contrast(weights, scores)
    left_out = 1 - len(orders) / math.factorial(len(orders[0]))
    if left_out == 0 or math.isnan(by_seeds.error) or len(orders) < 2:
        return by_seeds if left_out == 0 else replace(by_seeds, low=math.nan, high=math.nan, p=math.nan, error=math.nan)
    between = float(np.var([contrast(gain, scores).estimate for gain in gains], ddof=1))
    of_seeds = sum(contrast(_minus(gain, weights), scores).error ** 2 for gain in gains) / (len(gains) - 1)
    of_draw = left_out * max(0.0, between - of_seeds) / len(gains)
    variances, degrees = [by_seeds.error**2, of_draw], [by_seeds.df, len(gains) - 1]
    df = _degrees_of_freedom(variances, degrees)
    return _difference(by_seeds.estimate, math.sqrt(sum(variances)), df, by_seeds.n_a, 0.0)


def _joined(name: str, orders: Sequence[Order]) -> list[Order]:
    """Return, for each order, the tricks that joined before this one."""
    return [order[: order.index(name)] for order in orders]


def _marginal(name: str, before: Order, scores: Scores) -> dict[int, float]:
    return {scores.rows[frozenset([*before, name])]: 1.0, scores.rows[frozenset(before)]: -1.0}


def _mean_weights(gains: Sequence[Mapping[int, float]]) -> dict[int, float]:
    weights: dict[int, float] = {}
    for gain in gains:
        for row, weight in gain.items():
            weights[row] = weights.get(row, 0.0) + weight / len(gains)
    return weights


def _minus(gain: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    return {row: gain.get(row, 0.0) - other.get(row, 0.0) for row in {**gain, **other}}


def _size(gain: tuple[float, Order]) -> float:
    return gain[0]


def _words(names: tuple[str, str], higher_is_better: bool) -> Callable[[Difference], str]:
    """Return what puts an interval into words: one of two names if it leaves out zero."""

    def words(difference: Difference) -> str:
        if difference.n_a < 2:
            return "one seed only" if difference.n_a == 1 else "no result"
        if math.isnan(difference.p):
            return "one order only"
        found = direction(difference, higher_is_better)
        return dict(zip(("gain", "loss"), names, strict=True)).get(found, "undecided")

    return words
