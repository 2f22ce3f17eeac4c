"""Looking again after every seed, without claiming more: which p-value counts as found at each look.

Lan and DeMets 1983, Biometrika 70: the probability of a false claim is spent over the looks, with their spending
function of the O'Brien-Fleming kind: next to nothing early, almost all of it at the end. The levels are those of a
normal statistic, found by numerical integration (Armitage, McPherson, Rowe 1969, JRSS A 132). A t test is compared
with them by its p-value (Jennison and Turnbull 2000, Group Sequential Methods, section 4.4).
"""

import functools
import math

import numpy as np
from scipy import special

_TAIL = 9.0
"""Standard deviations beyond which a normal density counts as nothing."""


@functools.lru_cache(maxsize=64)
def nominal_levels(looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """Return the two-sided p-value that counts at each look, so that all looks together claim falsely at `alpha`.

    Args:
        looks: numbers of seeds, rising; the last is the last look.
        alpha: the probability of any claim where there is nothing to find.
    """
    times = np.array(looks) / looks[-1]
    spent = _spent(times, alpha / 2)
    levels: list[float] = []
    points, density, before = np.zeros(1), np.ones(1), 0.0
    for time, tail in zip(times, np.diff(spent, prepend=0.0), strict=True):
        step = math.sqrt(time - before)
        bound = _bound(points, density, step, tail, _TAIL * math.sqrt(time))
        levels.append(float(2 * special.ndtr(-bound / math.sqrt(time))) if math.isfinite(bound) else 0.0)
        points, density = _go_on(points, density, step, min(bound, _TAIL * math.sqrt(time)))
        before = time
    return tuple(levels)


def _spent(times: np.ndarray, alpha: float) -> np.ndarray:
    """The share of one tail's `alpha` that is spent by each time in (0, 1]."""
    return 2 * special.ndtr(special.ndtri(alpha / 2) / np.sqrt(times))


def _bound(points: np.ndarray, density: np.ndarray, step: float, tail: float, limit: float) -> float:
    """The sum beyond which the upper tail holds `tail`; infinite where that is too little to be found.

    Args:
        points: sums at the look before that went on.
        density: their probabilities.
        step: standard deviation of what the sum has gained since.
        tail: probability to spend.
        limit: the bound is looked for between 0 and here.
    """

    def beyond(bound: float) -> float:
        return float(density @ special.ndtr((points - bound) / step))

    if tail <= beyond(limit):
        return math.inf
    low, high = 0.0, limit
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) > tail else (low, middle)
    return high


def _go_on(points: np.ndarray, density: np.ndarray, step: float, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """Points within ±`bound` for the next look's sum, and the probability that each stands for."""
    nodes, weights = _gauss_legendre(max(128, math.ceil(8 * bound / step)))
    reached = bound * nodes
    kernel = np.exp(-(((reached[:, None] - points) / step) ** 2) / 2) / (step * math.sqrt(2 * math.pi))
    return reached, bound * weights * (kernel @ density)


@functools.cache
def _gauss_legendre(number: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(number)
    return nodes, weights
