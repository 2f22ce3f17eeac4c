"""How many seeds find a difference, and which difference some seeds find.

The power of a two-sided t test is P(|T| > t(df, alpha)) for T noncentral t with the noncentrality difference / error
(Cohen 1988, Statistical Power Analysis, chapter 2).
"""

import math
from collections.abc import Callable

from scipy import special

from ablations.statistics.intervals import t_value

_SEEDS_LIMIT = 10**9


def seeds_needed(
    difference: float, sd_with: float, sd_without: float, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """How many seeds a side the two-sided t test needs to find a true `difference`.

    Noncentrality |difference| · √n / √(sd_with² + sd_without²), with Welch's degrees of freedom for equal numbers of
    seeds: 2(n - 1) for equal spreads, fewer for unequal ones.

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
    spread = math.hypot(sd_with, sd_without)
    if difference == 0 or spread == 0:
        return None if difference == 0 else 2
    share = (sd_with / spread) ** 2
    df_factor = 1 / (share**2 + (1 - share) ** 2)
    effect = abs(difference) / spread
    return _smallest(lambda n: _power(effect * math.sqrt(n), df_factor * (n - 1), alpha) >= power)


def pairs_needed(difference: float, sd: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """How many pairs the two-sided paired t test needs: noncentrality |difference| · √n / sd, n - 1 degrees of freedom.

    Args:
        difference: the true difference, in the unit of the spread; its sign does not matter.
        sd: standard deviation of the pairs' differences.
        alpha: the p-value that counts as found.
        power: the probability of finding it.

    Returns:
        The number of pairs, at least 2; None if no number is enough.

    Raises:
        ValueError: the spread is negative or NaN, or the difference is NaN.
    """
    if math.isnan(difference) or not sd >= 0:
        raise ValueError(
            f"pairs_needed wants a difference and a standard deviation of at least 0, got {difference=}, {sd=}."
        )
    if difference == 0 or sd == 0:
        return None if difference == 0 else 2
    effect = abs(difference) / sd
    return _smallest(lambda n: _power(effect * math.sqrt(n), n - 1, alpha) >= power)


def smallest_difference(n: int, sd: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that `n` seeds a side find: the inverse of `seeds_needed` for equal spreads.

    Args:
        n: seeds a side; with fewer than 2 no difference can be found, and the answer is infinite.
        sd: standard deviation over seeds, the same on both sides.
        alpha: the p-value that counts as found.
        power: the probability of finding it.
    """
    return math.inf if n < 2 else _noncentrality(2 * (n - 1), alpha, power) * sd * math.sqrt(2 / n)


def smallest_paired_difference(n: int, sd: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that `n` pairs find: the inverse of `pairs_needed`.

    Args:
        n: pairs; with fewer than 2 no difference can be found, and the answer is infinite.
        sd: standard deviation of the pairs' differences.
        alpha: the p-value that counts as found.
        power: the probability of finding it.
    """
    return math.inf if n < 2 else _noncentrality(n - 1, alpha, power) * sd / math.sqrt(n)


def _smallest(is_enough: Callable[[int], bool]) -> int | None:
    """The smallest number from 2 on that is enough; None beyond what anybody could train."""
    low, high = 1, 2
    while not is_enough(high):
        low, high = high, 2 * high
        if high > _SEEDS_LIMIT:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _noncentrality(df: float, alpha: float, power: float) -> float:
    """The noncentrality at which the test has this power."""
    return math.sqrt(special.ncfdtrinc(1, df, 1 - power, t_value(df, alpha) ** 2))


def _power(noncentrality: float, df: float, alpha: float) -> float:
    """The probability that |t| exceeds its two-sided critical value when the true t is shifted by `noncentrality`.

    By the square of t, which follows a noncentral F with 1 and `df` degrees of freedom: scipy's noncentral t gives NaN
    for some ordinary arguments, this one only where the probability of staying below underflows.
    """
    critical = t_value(df, alpha)
    below = float(special.ncfdtr(1, df, noncentrality * noncentrality, critical * critical))
    return 1.0 if math.isnan(below) else 1 - below
