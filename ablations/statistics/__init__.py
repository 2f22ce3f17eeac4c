"""The statistics of a study: from the scores of some seeds to intervals, p-values and a verdict in words.

Pure functions of numbers, and frozen records; what is drawn at random comes from a generator that is handed in. What
cannot be said (a spread from one seed, a p-value without scores) is NaN, never a guess.
"""

from ablations.statistics.bootstrap import crossed_difference, crossed_mean, probability_of_improvement
from ablations.statistics.intervals import Difference, Interval, mean_interval, paired, sample_sd, welch
from ablations.statistics.multiplicity import holm, holm_intervals
from ablations.statistics.power import pairs_needed, seeds_needed, smallest_difference, smallest_paired_difference
from ablations.statistics.verdicts import DECISIVE_SEEDS_AT_MOST, direction, verdict

__all__ = [
    "DECISIVE_SEEDS_AT_MOST",
    "Difference",
    "Interval",
    "crossed_difference",
    "crossed_mean",
    "direction",
    "holm",
    "holm_intervals",
    "mean_interval",
    "paired",
    "pairs_needed",
    "probability_of_improvement",
    "sample_sd",
    "seeds_needed",
    "smallest_difference",
    "smallest_paired_difference",
    "verdict",
    "welch",
]
