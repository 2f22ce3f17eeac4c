"""The records of a study's table.

They hold full precision; `ablations.table_text` rounds. A gain is always with the trick minus without it, in every mode
of a study.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ablations.racing import Decision, Race
from ablations.statistics import Difference, Interval


@dataclass(frozen=True)
class Failure:
    """Why some seeds of a row have no score.

    Args:
        reason: one line.
        seeds: the seeds that failed for it.
    """

    reason: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class TableRow:
    """One line of the table; scores and gains are in the table's unit.

    Args:
        index: the number of the row; 0 is the base, or the full stack where tricks are left out of it.
        name: short name.
        text: one sentence on what the row adds.
        trick: name of the trick; None for the row that others are compared with first.
        compared_to: index of the row that the gain is measured against, or None.
        n_done: seeds with a score.
        n_failed: seeds that failed, or whose score is not a finite number.
        n_missing: seeds that have not been run and are wanted.
        score: mean over the seeds with a score, and its interval.
        sd: standard deviation over these seeds.
        gain: with the trick minus without it; None if the row is compared with none. Its interval leaves out zero
            exactly where the verdict is a gain or a loss: it is that of `holm_intervals` or, in a race, of the look
            that the verdict rests on.
        p_adjusted: p of the gain, adjusted over the table; NaN without one, and in a race, which looks more than once.
        verdict: the gain in words; empty if the row is compared with none.
        published: the gain that was published, in the table's unit, or None.
        published_unconfirmed: whether nobody has checked that number against its source.
        seconds: median over the seeds of the time of all trainings behind a score; NaN if unknown.
        seconds_ratio: `seconds` divided by that of the row compared with; NaN if unknown.
        parameters: number of parameters, or None if unknown.
        failures: why seeds failed.
        improvement: how likely a seed with the trick beats one without it; None if the row is compared with none.
        n_spared: seeds that a race left out, since nothing that they could decide was open.
        decision: how the row's comparison stands in a race; None without one.
        peak_memory_mb: median over the seeds of the most memory that a training of the row took; NaN if unknown.
        test_seconds: median time of the row's test; NaN if unknown.
        test_ratio: `test_seconds` divided by that of the row compared with; NaN if unknown.
        flops_per_image: floating-point operations for a test image; NaN if unknown.
        n_trainings: how many trainings are behind a score.
    """

    index: int
    name: str
    text: str
    trick: str | None
    compared_to: int | None
    n_done: int
    n_failed: int
    n_missing: int
    score: Interval
    sd: float
    gain: Difference | None
    p_adjusted: float
    verdict: str
    published: float | None
    published_unconfirmed: bool
    seconds: float
    seconds_ratio: float
    parameters: int | None
    failures: tuple[Failure, ...]
    improvement: Interval | None = None
    n_spared: int = 0
    decision: Decision | None = None
    peak_memory_mb: float = math.nan
    test_seconds: float = math.nan
    test_ratio: float = math.nan
    flops_per_image: float = math.nan
    n_trainings: int = 1


@dataclass(frozen=True)
class Interaction:
    """What two tricks do together beyond the sum of what each does alone.

    Args:
        row: index of the row that has both.
        tricks: the two.
        difference: with both, minus with either, plus with none; its interval leaves out zero exactly where the verdict
            claims something.
        p_adjusted: its p, adjusted over all pairs; NaN without one.
        verdict: the interaction in words.
    """

    row: int
    tricks: tuple[str, ...]
    difference: Difference
    p_adjusted: float
    verdict: str


@dataclass(frozen=True)
class ShapleyValue:
    """What a trick gains, averaged over orders in which the tricks join.

    Args:
        trick: the trick.
        value: the mean over orders of its marginal gain; its interval leaves out zero exactly where the verdict claims
            something.
        p_adjusted: its p, adjusted over all tricks; NaN without one.
        verdict: the value in words.
        smallest: the smallest marginal gain of all orders; NaN without any. Where lower is better, the larger the fall
            the larger the gain.
        smallest_after: the tricks that had joined before in that order, one after the other.
        largest: the largest marginal gain.
        largest_after: the tricks that had joined before there.
    """

    trick: str
    value: Difference
    p_adjusted: float
    verdict: str
    smallest: float
    smallest_after: tuple[str, ...]
    largest: float
    largest_after: tuple[str, ...]


@dataclass(frozen=True)
class Mixture:
    """Something that the trainings of one table should share, and do not.

    Args:
        what: what differs, in words.
        rows: by value: the rows that have trainings with it.
    """

    what: str
    rows: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Head:
    """How the scores were made: the command, and on what."""

    command: str
    commit: str | None
    versions: Mapping[str, str]
    hardware: str
    date: str


@dataclass(frozen=True)
class Table:
    """The table of a study.

    Args:
        name: name of the study.
        task: task of the study.
        mode: how rows were made from tricks: `stack`, `leave-one-out`, `one-at-a-time`, `pairs` or `shapley`.
        metric: the headline metric.
        scale: what it was multiplied with to give the numbers of this table.
        unit: what the numbers are in; empty for a plain number.
        higher_is_better: whether a positive gain is good.
        seeds: the seeds of the study.
        source: where the published gains stand, or None.
        source_unconfirmed: whether some of these gains have not been checked against it.
        head: how the scores were made.
        rows: in the order of the study.
        shared_trainings: groups of rows that score the same trainings, as row indices.
        machines: the devices and numbers of threads that trainings ran on, as far as known.
        vary: what differs from seed to seed; with `split` among it, equal seeds make pairs.
        mixtures: what the trainings should share and do not, as far as known.
        race: the rule by which rows got their seeds; None if all got the same.
        needed: the rows and seeds that the race runs next; empty at its end, and without one.
        interactions: of each pair of tricks, in mode `pairs`.
        shapley: of each trick, in mode `shapley`.
        orders: the orders behind the Shapley values.
    """

    name: str
    task: str
    mode: str
    metric: str
    scale: float
    unit: str
    higher_is_better: bool
    seeds: tuple[int, ...]
    source: str | None
    source_unconfirmed: bool
    head: Head
    rows: tuple[TableRow, ...]
    shared_trainings: tuple[tuple[int, ...], ...]
    machines: tuple[str, ...]
    vary: tuple[str, ...] = ("init", "order")
    mixtures: tuple[Mixture, ...] = ()
    race: Race | None = None
    needed: tuple[tuple[int, int], ...] = ()
    interactions: tuple[Interaction, ...] = ()
    shapley: tuple[ShapleyValue, ...] = ()
    orders: tuple[tuple[str, ...], ...] = ()

    @property
    def comparisons(self) -> int:
        """Number of gains that have a p-value; p is adjusted over these."""
        return sum(not math.isnan(row.p_adjusted) for row in self.rows)
