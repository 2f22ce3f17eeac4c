"""What a table may claim when it tests many rows at once.

The tests below it are t tests. They keep what they promise for unequal spreads, and for skewed scores of equal spread;
where scores are both strongly skewed and of very unequal spread, few seeds claim more than they should.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ablations.statistics.intervals import Difference


def holm(p_values: ArrayLike) -> list[float]:
    """p-values adjusted for there being several: each may be compared with alpha as if it were the only one.

    Holm 1979, Scand. J. Statistics 6: the k-th smallest of m is multiplied by m - k + 1, never falls below the one
    before it, and ends at 1. Holds whatever the dependence, and rows of a table that share a neighbour do depend.

    Args:
        p_values: `(N,)`; NaN stays NaN and does not count.
    """
    p = np.asarray(p_values, dtype=float)
    order = _known_by_size(p)
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return [float(value) for value in adjusted]


def holm_intervals(differences: Sequence[Difference], alpha: float = 0.05) -> list[Difference]:
    """The differences with intervals that leave out zero exactly where Holm's method rejects at `alpha`.

    The k-th smallest p of m is compared with alpha / (m - k + 1) until one is larger. Each difference that is rejected
    gets the interval of its own step, the others that of the step that stopped. No interval is narrower than the one
    for its row alone, so each covers the true difference with a probability of at least 1 - alpha.

    Args:
        differences: those without a p-value stay as they are and do not count.
        alpha: the probability of any claim where there is nothing to find.
    """
    order = _known_by_size(np.array([difference.p for difference in differences], dtype=float))
    widened, rejects = list(differences), True
    for rank, place in enumerate(order):
        if rejects:
            level = alpha / (len(order) - rank)
            rejects = differences[place].p <= level
        widened[place] = differences[place].at(level)
    return widened


def _known_by_size(p: np.ndarray) -> np.ndarray:
    """The places of the p-values that are known, smallest first."""
    return np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]
