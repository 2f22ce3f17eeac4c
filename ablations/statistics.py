"""The statistics of a study: from the scores of some seeds to intervals, p-values and a verdict in words.

Pure functions of numbers, and frozen records. Scores are unpaired: two rows never share more than the test set. What
cannot be said (a spread from one seed, a p-value without scores) is NaN, never a guess. The t distribution comes from
`scipy.special`, on which `scipy.stats` builds: a table asks for it hundreds of times, and there it costs microseconds.
"""

import math
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

DECISIVE_SEEDS_AT_MOST = 1_000
"""A verdict names the number of seeds that would decide it up to here; beyond, nobody trains that many."""

_SEEDS_LIMIT = 10**9


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval.

    Args:
        estimate: the mean; NaN without values.
        low: lower end; NaN with fewer than two values.
        high: upper end; NaN with fewer than two values.
        n: number of values.
    """

    estimate: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """What stands after the ± sign."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Difference:
    """The difference of two means, first minus second, with Welch's interval and test.

    Args:
        estimate: the difference; NaN if a side has no values.
        low: lower end of the interval; NaN if a side has fewer than two values, as are `high`, `p` and `df`.
        high: upper end of the interval.
        p: two-sided p-value of no difference.
        df: degrees of freedom; infinite where both sides are constant.
        n_a: number of values on the first side.
        n_b: number of values on the second side.
    """

    estimate: float
    low: float
    high: float
    p: float
    df: float
    n_a: int
    n_b: int


def sample_sd(values: ArrayLike) -> float:
    """The sample standard deviation (n - 1); NaN with fewer than two values, exactly 0 for equal ones."""
    return _moments(values)[1]


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean of `values` and its t interval: mean ± t(n - 1) · sd / √n (Student 1908, Biometrika 6).

    Args:
        values: `(N,)` finite scores; one gives no interval, none gives no mean.
        confidence: the share of such intervals that cover the true mean.

    Raises:
        ValueError: a score is not finite.
    """
    mean, sd, n = _moments(values)
    half_width = _t_quantile(n - 1, confidence) * sd / math.sqrt(n) if n > 1 else math.nan
    return Interval(mean, mean - half_width, mean + half_width, n)


def welch(with_: ArrayLike, without: ArrayLike, confidence: float = 0.95) -> Difference:
    """Mean of `with_` minus mean of `without`, by Welch's t test, which does not assume equal spreads.

    Welch 1947, Biometrika 34, with the degrees of freedom of Satterthwaite 1946, Biometrics Bulletin 2. Two constant
    sides leave nothing to estimate: the interval has no width, and p is 1 if they are equal and 0 if they are not. Both
    are meant up to rounding, as in R's `t.test`: within 10 times the machine's precision.

    Args:
        with_: `(N,)` finite scores.
        without: `(M,)` finite scores.
        confidence: the share of such intervals that cover the true difference.

    Raises:
        ValueError: a score is not finite.
    """
    mean_a, sd_a, n_a = _moments(with_)
    mean_b, sd_b, n_b = _moments(without)
    estimate = mean_a - mean_b
    if min(n_a, n_b) < 2:
        return Difference(estimate, math.nan, math.nan, math.nan, math.nan, n_a, n_b)
    error = math.hypot(sd_a / math.sqrt(n_a), sd_b / math.sqrt(n_b))
    rounding = 10 * sys.float_info.epsilon * max(abs(mean_a), abs(mean_b))
    if error <= rounding:
        estimate = 0.0 if abs(estimate) <= rounding else estimate
        return Difference(estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0, math.inf, n_a, n_b)
    share = (sd_a / math.sqrt(n_a) / error) ** 2
    df = 1 / (share**2 / (n_a - 1) + (1 - share) ** 2 / (n_b - 1))
    half_width = _t_quantile(df, confidence) * error
    p = 2 * float(special.stdtr(df, -abs(estimate) / error))
    return Difference(estimate, estimate - half_width, estimate + half_width, p, df, n_a, n_b)


def holm(p_values: ArrayLike) -> list[float]:
    """p-values adjusted for there being several: each may be compared with alpha as if it were the only one.

    Holm 1979, Scand. J. Statistics 6: the k-th smallest of m is multiplied by m - k + 1, never falls below the one
    before it, and ends at 1. Holds whatever the dependence, and rows of a table that share a neighbour do depend.

    Args:
        p_values: `(N,)`; NaN stays NaN and does not count.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return [float(value) for value in adjusted]


def seeds_needed(
    difference: float, sd_with: float, sd_without: float, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """How many seeds a side the two-sided t test needs to find a true `difference`.

    The power is that of the noncentral t (Cohen 1988, Statistical Power Analysis, chapter 2) with Welch's degrees of
    freedom for equal numbers of seeds: 2(n - 1) for equal spreads, fewer for unequal ones.

    Args:
        difference: the true difference, in the unit of the spreads; its sign does not matter.
        sd_with: standard deviation over seeds of one side.
        sd_without: standard deviation over seeds of the other side.
        alpha: the p-value that counts as found.
        power: the probability of finding it.

    Returns:
        The number for each side, at least 2; None if no number is enough (no difference, or next to none).

    Raises:
        ValueError: a spread is negative or NaN, or the difference is NaN.
    """
    if math.isnan(difference) or not (sd_with >= 0 and sd_without >= 0):
        raise ValueError(
            f"seeds_needed wants a difference and two standard deviations of at least 0, got {difference=}, "
            f"{sd_with=}, {sd_without=}. A single seed has no standard deviation."
        )
    if difference == 0:
        return None
    spread = math.hypot(sd_with, sd_without)
    if spread == 0:
        return 2
    effect = abs(difference) / spread
    share = (sd_with / spread) ** 2
    df_factor = 1 / (share**2 + (1 - share) ** 2)

    def is_enough(n: int) -> bool:
        return _power(effect * math.sqrt(n), df_factor * (n - 1), alpha) >= power

    low, high = 1, 2
    while not is_enough(high):
        low, high = high, 2 * high
        if high > _SEEDS_LIMIT:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def smallest_difference(n: int, sd: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that `n` seeds a side find: the inverse of `seeds_needed` for equal spreads.

    Args:
        n: seeds a side; with fewer than 2 no difference can be found, and the answer is infinite.
        sd: standard deviation over seeds, the same on both sides.
        alpha: the p-value that counts as found.
        power: the probability of finding it.
    """
    if n < 2:
        return math.inf
    df = 2 * (n - 1)
    noncentrality = math.sqrt(special.ncfdtrinc(1, df, 1 - power, _t_quantile(df, 1 - alpha) ** 2))
    return noncentrality * sd * math.sqrt(2 / n)


def verdict(
    difference: Difference,
    p_adjusted: float,
    sd_with: float,
    sd_without: float,
    alpha: float = 0.05,
    higher_is_better: bool = True,
    comparisons: int = 1,
) -> str:
    """What the numbers of a row say, in words: a gain, a loss, or how many seeds would decide it.

    The number of seeds takes the measured difference for the true one and asks for a power of 80 %.

    Args:
        difference: with the trick minus without it.
        p_adjusted: its p-value after `holm`; the verdict follows from this one.
        sd_with: standard deviation over seeds with the trick.
        sd_without: standard deviation over seeds without it.
        alpha: the adjusted p-value up to which a row is decided.
        higher_is_better: False for losses and errors, where a negative difference is the gain.
        comparisons: how many rows `holm` went over. The number of seeds is for alpha / comparisons, which decides the
            row whatever the others turn out to be.
    """
    if min(difference.n_a, difference.n_b) == 0:
        return "no result"
    if min(difference.n_a, difference.n_b) == 1:
        return "one seed only"
    if p_adjusted <= alpha:
        return "gain" if (difference.estimate > 0) == higher_is_better else "loss"
    seeds = seeds_needed(difference.estimate, sd_with, sd_without, alpha / comparisons)
    if seeds is None or seeds > DECISIVE_SEEDS_AT_MOST:
        return f"undecided (more than {DECISIVE_SEEDS_AT_MOST:,} seeds would be needed)"
    return f"undecided (about {seeds:,} seeds would decide it)"


def _moments(values: ArrayLike) -> tuple[float, float, int]:
    """Mean, sample standard deviation and number of `values`; exact for equal ones, where a sum would round."""
    scores = np.asarray(values, dtype=float)
    if not np.isfinite(scores).all():
        raise ValueError(f"Scores must be finite, got {scores.tolist()}. Drop failed seeds first.")
    n = scores.size
    if n == 0:
        return math.nan, math.nan, 0
    if (scores == scores[0]).all():
        return float(scores[0]), 0.0 if n > 1 else math.nan, n
    return float(scores.mean()), float(scores.std(ddof=1)), n


def _t_quantile(df: float, confidence: float) -> float:
    """The t value that leaves (1 - confidence) / 2 above it."""
    return float(special.stdtrit(df, (1 + confidence) / 2))


def _power(noncentrality: float, df: float, alpha: float) -> float:
    """The probability that |t| exceeds its two-sided critical value when the true t is shifted by `noncentrality`.

    By the square of t, which follows a noncentral F with 1 and `df` degrees of freedom: scipy's noncentral t gives NaN
    for some ordinary arguments, this one only where the probability of staying below underflows.
    """
    critical = _t_quantile(df, 1 - alpha)
    below = float(special.ncfdtr(1, df, noncentrality * noncentrality, critical * critical))
    return 1.0 if math.isnan(below) else 1 - below
