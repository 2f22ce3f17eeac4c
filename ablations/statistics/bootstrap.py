"""Intervals by resampling: of seeds, and of seeds and test examples at once.

The generator that is handed in decides every draw, so the same generator gives the same interval.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ablations.statistics.intervals import Interval, t_value

_DRAWS_AT_A_TIME = 2_000_000


def probability_of_improvement(
    with_: ArrayLike,
    without: ArrayLike,
    generator: np.random.Generator,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """How likely a seed with the trick beats a seed without it; a tie counts half.

    Agarwal et al. 2021, arXiv:2108.13264, for one task: the Mann-Whitney statistic over all pairs of seeds, with the
    percentile interval of both sides' seeds resampled. With few seeds that interval is too narrow, and it has no width
    where every seed with the trick beats all without it.

    Args:
        with_: `(N,)` finite scores.
        without: `(M,)` finite scores.
        generator: draws the resamples.
        higher_is_better: False for losses and errors.
        confidence: the share of such intervals that cover the true probability, with many seeds.
        resamples: how often seeds are drawn.

    Returns:
        The probability and its interval, `n` the number of seeds of the smaller side; NaN where that is too few.
    """
    first, second = np.asarray(with_, dtype=float), np.asarray(without, dtype=float)
    n = min(first.size, second.size)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, n)
    if not higher_is_better:
        first, second = -first, -second
    beaten = np.searchsorted(np.sort(second), first, "left"), np.searchsorted(np.sort(second), first, "right")
    estimate = float((beaten[0] + beaten[1]).sum() / (2 * first.size * second.size))
    if n < 2:
        return Interval(estimate, math.nan, math.nan, n)
    counts = [_counts(resamples, side.size, generator) for side in (first, second)]
    # Sums along the sorted seeds of one side say how many drawn ones each seed of the other beats: no matrix product,
    # which would wait for all of its threads on a busy machine.
    below = np.zeros((resamples, second.size + 1))
    np.cumsum(counts[1][:, np.argsort(second)], axis=1, out=below[:, 1:])
    drawn = (counts[0] * (below[:, beaten[0]] + below[:, beaten[1]])).sum(axis=1) / (2 * first.size * second.size)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high), n)


def crossed_mean(
    outcomes: ArrayLike, generator: np.random.Generator, confidence: float = 0.95, resamples: int = 2000
) -> Interval:
    """The mean outcome and its interval over other seeds and other test examples: see `crossed_difference`.

    Args:
        outcomes: `(S, E)`: what seed s got on example e, such as 1 for right and 0 for wrong.
        generator: draws the resamples.
        confidence: the share of such intervals that cover the mean over all seeds and examples.
        resamples: how often both are drawn.

    Raises:
        ValueError: `outcomes` is no matrix, or an outcome is not finite.
    """
    return _crossed([_outcomes(outcomes)], generator, confidence, resamples)


def crossed_difference(
    with_: ArrayLike,
    without: ArrayLike,
    generator: np.random.Generator,
    paired: bool = False,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """The difference of two rows that are tested on the same examples, and its interval over other seeds and examples.

    Whole seeds and whole examples are drawn, independently of each other: the pigeonhole bootstrap (Owen 2007, Annals
    of Applied Statistics 1). Its spread is not yet the right one: it counts what is peculiar to a seed on an example
    three times, and has normal tails however few the seeds are. So the distribution is stretched to the unbiased
    variance of two crossed random factors (Searle, Casella and McCulloch 1992, Variance Components, chapter 4) and to
    the t quantile with Satterthwaite's degrees of freedom.

    Args:
        with_: `(S, E)`: what seed s got on example e with the trick.
        without: `(T, E)`: the same without it, examples in the same order.
        generator: draws the resamples.
        paired: whether seed s is the same seed on both sides.
        confidence: the share of such intervals that cover the difference over all seeds and examples.
        resamples: how often both are drawn.

    Returns:
        The difference and its interval, `n` the number of seeds of the smaller side; NaN where that is too few.

    Raises:
        ValueError: the shapes do not fit, or an outcome is not finite.
    """
    first, second = _outcomes(with_), _outcomes(without)
    if first.shape[1] != second.shape[1] or (paired and first.shape != second.shape):
        what = "seeds and examples" if paired else "examples"
        raise ValueError(f"Both sides need the same {what}, got arrays of {first.shape} and {second.shape}.")
    return _crossed([first - second] if paired else [first, -second], generator, confidence, resamples)


def _outcomes(values: ArrayLike) -> np.ndarray:
    outcomes = np.asarray(values, dtype=float)
    if outcomes.ndim != 2 or not np.isfinite(outcomes).all():
        raise ValueError(f"Outcomes must be finite numbers (seeds, examples), got an array of {outcomes.shape}.")
    return outcomes


def _crossed(
    sides: Sequence[np.ndarray], generator: np.random.Generator, confidence: float, resamples: int
) -> Interval:
    """The sum of the sides' means; the sides share their examples and not their seeds."""
    seeds, examples = min(len(side) for side in sides), sides[0].shape[1]
    if min(seeds, examples) == 0:
        return Interval(math.nan, math.nan, math.nan, seeds)
    estimate = float(sum(side.mean() for side in sides))
    if min(seeds, examples) < 2:
        return Interval(estimate, math.nan, math.nan, seeds)
    variance, df = _crossed_variance(sides)
    drawn = _draw_crossed(sides, generator, resamples) - estimate
    spread = drawn.std()
    if variance == 0 or spread == 0:
        return Interval(estimate, estimate, estimate, seeds)
    normal = -float(special.ndtri((1 - confidence) / 2))
    stretch = math.sqrt(variance) / spread * t_value(df, 1 - confidence) / normal
    low, high = estimate + stretch * np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high), seeds)


def _crossed_variance(sides: Sequence[np.ndarray]) -> tuple[float, float]:
    """The unbiased variance of the sum of the sides' means, and its degrees of freedom.

    The spread of a side's seeds and that of the examples both hold what is peculiar to a seed on an example, so one of
    the two goes. Neither of them alone is larger than the truth but by chance.
    """
    examples = sides[0].shape[1]
    of_seeds = [side.mean(axis=1).var(ddof=1) / len(side) for side in sides]
    of_examples = np.sum([side.mean(axis=0) for side in sides], axis=0).var(ddof=1) / examples
    of_both = 0.0
    for side in sides:
        rest = side - side.mean(axis=0) - side.mean(axis=1, keepdims=True) + side.mean()
        of_both += (rest**2).sum() / ((len(side) - 1) * (examples - 1)) / side.size
    variance = float(max(sum(of_seeds) + of_examples - of_both, sum(of_seeds), of_examples))
    uncertainty = sum(part**2 / (len(side) - 1) for part, side in zip(of_seeds, sides, strict=True))
    uncertainty += of_examples**2 / (examples - 1)
    return variance, float(variance**2 / uncertainty) if uncertainty > 0 else math.inf


def _draw_crossed(sides: Sequence[np.ndarray], generator: np.random.Generator, resamples: int) -> np.ndarray:
    """`(resamples,)` sums of means over drawn seeds and drawn examples."""
    examples = sides[0].shape[1]
    at_a_time = max(1, _DRAWS_AT_A_TIME // examples)
    drawn = []
    for start in range(0, resamples, at_a_time):
        number = min(at_a_time, resamples - start)
        of_examples = _counts(number, examples, generator)
        of_seeds = [_counts(number, len(side), generator) for side in sides]
        sums = [(of_examples @ side.T * counts).sum(axis=1) for side, counts in zip(sides, of_seeds, strict=True)]
        drawn.append(np.sum([total / side.size for side, total in zip(sides, sums, strict=True)], axis=0))
    return np.concatenate(drawn)


def _counts(resamples: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """`(resamples, size)`: how often each of `size` things is drawn, in `size` draws with replacement."""
    places = generator.integers(size, size=(resamples, size)) + size * np.arange(resamples)[:, None]
    return np.bincount(places.ravel(), minlength=resamples * size).reshape(resamples, size).astype(float)
