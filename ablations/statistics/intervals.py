"""Means and differences of means, each with its t interval.

The t distribution comes from `scipy.special`, on which `scipy.stats` builds: a table asks for it hundreds of times, and
there it costs microseconds.
"""

import math
import sys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


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
    """The difference of two means, first minus second, with the interval and the test of its t statistic.

    Args:
        estimate: the difference; NaN if a side has no values.
        low: lower end of the interval; NaN if a side has fewer than two values, as are `high`, `p`, `df` and `error`.
        high: upper end of the interval.
        p: two-sided p-value of no difference.
        df: degrees of freedom; infinite where both sides are constant.
        n_a: number of values on the first side.
        n_b: number of values on the second side.
        error: standard error of the estimate.
        confidence: the share of such intervals that cover the true difference.
        pairs: number of pairs that were compared; 0 if the sides were taken as unpaired.
    """

    estimate: float
    low: float
    high: float
    p: float
    df: float
    n_a: int
    n_b: int
    error: float = math.nan
    confidence: float = 0.95
    pairs: int = 0

    def at(self, alpha: float) -> "Difference":
        """Return the same difference with the interval that misses the true one with probability `alpha`."""
        half_width = self.error * t_value(self.df, alpha) if self.error > 0 else self.error
        return replace(self, low=self.estimate - half_width, high=self.estimate + half_width, confidence=1 - alpha)


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
    half_width = t_value(n - 1, 1 - confidence) * sd / math.sqrt(n) if n > 1 else math.nan
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
        return _unknown(estimate, n_a, n_b, confidence)
    error = math.hypot(sd_a / math.sqrt(n_a), sd_b / math.sqrt(n_b))
    rounding = _rounding(mean_a, mean_b)
    if error <= rounding:
        estimate = 0.0 if abs(estimate) <= rounding else estimate
        p = 1.0 if estimate == 0 else 0.0
        return Difference(estimate, estimate, estimate, p, math.inf, n_a, n_b, 0.0, confidence)
    share = (sd_a / math.sqrt(n_a) / error) ** 2
    df = 1 / (share**2 / (n_a - 1) + (1 - share) ** 2 / (n_b - 1))
    return _t_difference(estimate, error, df, n_a, n_b, confidence)


def paired(with_: ArrayLike, without: ArrayLike, confidence: float = 0.95) -> Difference:
    """Mean of `with_` minus mean of `without`, pair by pair: the t test of the pairs' differences (Student 1908).

    Pairs that all differ by the same amount have no spread to judge it by. That is common where a score is a share of
    few test examples, and no certainty: then Welch's test decides.

    Args:
        with_: `(N,)` finite scores.
        without: `(N,)` finite scores, in the same order.
        confidence: the share of such intervals that cover the true difference.

    Raises:
        ValueError: a score is not finite, or the two are not equally many.
    """
    first, second = np.asarray(with_, dtype=float), np.asarray(without, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"Pairs need as many scores on both sides, got {first.size} and {second.size}.")
    mean_a, _, n = _moments(first)
    mean_b, _, _ = _moments(second)
    if n < 2:
        return _unknown(mean_a - mean_b, n, n, confidence)
    estimate, sd, _ = _moments(first - second)
    if sd <= _rounding(mean_a, mean_b):
        return welch(first, second, confidence)
    return _t_difference(estimate, sd / math.sqrt(n), n - 1, n, n, confidence, pairs=n)


def t_value(df: float, alpha: float) -> float:
    """The t value that |t| exceeds with probability `alpha`, and infinity for 0; exact for the smallest, too."""
    return -float(special.stdtrit(df, alpha / 2)) if alpha > 0 else math.inf


def _t_difference(
    estimate: float, error: float, df: float, n_a: int, n_b: int, confidence: float, pairs: int = 0
) -> Difference:
    half_width = t_value(df, 1 - confidence) * error
    p = 2 * float(special.stdtr(df, -abs(estimate) / error))
    low, high = estimate - half_width, estimate + half_width
    return Difference(estimate, low, high, p, df, n_a, n_b, error, confidence, pairs)


def _unknown(estimate: float, n_a: int, n_b: int, confidence: float) -> Difference:
    return Difference(estimate, math.nan, math.nan, math.nan, math.nan, n_a, n_b, math.nan, confidence)


def _rounding(*means: float) -> float:
    """How far apart two equal means can come out."""
    return 10 * sys.float_info.epsilon * max(map(abs, means))


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
