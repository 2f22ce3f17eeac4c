"""The verdict on a row in words."""

import math

from ablations.statistics.intervals import Difference
from ablations.statistics.power import pairs_needed, seeds_needed

DECISIVE_SEEDS_AT_MOST = 1_000
"""A verdict names the number of seeds that would decide it up to here; beyond, nobody trains that many."""


def direction(difference: Difference, higher_is_better: bool = True) -> str:
    """What the interval says by itself: `gain` or `loss` where it leaves out zero, else nothing."""
    if difference.low > 0 or difference.high < 0:
        return "gain" if (difference.low > 0) == higher_is_better else "loss"
    return ""


def verdict(
    difference: Difference,
    sd_with: float,
    sd_without: float,
    alpha: float = 0.05,
    higher_is_better: bool = True,
    comparisons: int = 1,
) -> str:
    """What the interval of a row says, in words: a gain, a loss, or how many seeds would decide it.

    The number of seeds takes the measured difference for the true one and asks for a power of 80 %.

    Args:
        difference: with the trick minus without it, with its interval after `holm_intervals`.
        sd_with: standard deviation over seeds with the trick.
        sd_without: standard deviation over seeds without it.
        alpha: the probability of any claim of the table where there is nothing to find.
        higher_is_better: False for losses and errors, where a negative difference is the gain.
        comparisons: how many rows the table compares. The number of seeds is for alpha / comparisons, which decides the
            row whatever the others turn out to be.
    """
    if min(difference.n_a, difference.n_b) == 0:
        return "no result"
    if min(difference.n_a, difference.n_b) == 1:
        return "one seed only"
    words = direction(difference, higher_is_better)
    if words:
        return words
    if difference.pairs:
        sd = difference.error * math.sqrt(difference.pairs)
        seeds = pairs_needed(difference.estimate, sd, alpha / comparisons)
    else:
        seeds = seeds_needed(difference.estimate, sd_with, sd_without, alpha / comparisons)
    if seeds is None or seeds > DECISIVE_SEEDS_AT_MOST:
        return f"undecided (more than {DECISIVE_SEEDS_AT_MOST:,} seeds would be needed)"
    return f"undecided (about {seeds:,} seeds would decide it)"
