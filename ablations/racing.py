"""Racing: more seeds only for the comparisons that are still open.

Every comparison of a table is looked at after the first few seeds and after every further one, up to a fixed largest
number. At each look its interval is that of a group-sequential test (`ablations.spending`) at alpha divided by the
number of comparisons: a repeated confidence interval (Jennison and Turnbull 1989, JRSS B 51). All intervals of the
table, at all looks, hold together with a probability of 1 - alpha, so a comparison may stop as soon as its interval
says something: it leaves out zero, or it lies within what is too small to matter.

Nothing is remembered between looks. A comparison is followed from its first look on whatever the scores are, so it
stays where it stopped, however many seeds its rows get for the sake of others. A failed seed counts as run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ablations.errors import StudyError
from ablations.spending import nominal_levels
from ablations.statistics import Difference, direction, paired, welch

Scores = Mapping[int, Mapping[int, float]]
"""By row and seed: the score in the table's unit, NaN where the seed failed; nothing where it has not been run."""


@dataclass(frozen=True)
class Race:
    """The rule of a race. It must stand before the first look: the levels of all looks follow from it.

    Args:
        seeds: the seeds that rows get at most, in their order.
        effect: gains within ± this, in the table's unit, are too small to matter; `None` tells none apart.
        first: seeds before the first look.
        alpha: the probability that any comparison of the table claims something false.

    Raises:
        StudyError: fewer seeds than the first look needs, or an effect that is not positive.
    """

    seeds: tuple[int, ...]
    effect: float | None = None
    first: int = 3
    alpha: float = 0.05

    def __post_init__(self) -> None:
        problems = []
        if not 2 <= self.first <= len(self.seeds):
            problems.append(
                f"a race of at most {len(self.seeds)} seeds cannot look first after {self.first}: the first look needs "
                f"at least 2 seeds, and --max-seeds at least as many as that."
            )
        if self.effect is not None and not self.effect > 0:
            problems.append(f"--effect {self.effect:g}: what is too small to matter must be a number above 0.")
        if problems:
            raise StudyError(*problems)

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of seeds after which is looked."""
        return tuple(range(self.first, len(self.seeds) + 1))


@dataclass(frozen=True)
class Comparison:
    """Two rows of a table.

    Args:
        with_: the row with the trick.
        without: the row without it.
        pairs: whether equal seeds make pairs.
    """

    with_: int
    without: int
    pairs: bool = False


@dataclass(frozen=True)
class Decision:
    """How a comparison stands.

    Args:
        verdict: `open`; `gain`, `loss` or `too small`, which stop it; `undecided` after the last seed; `no result`
            where a row has no score after the first look's seeds.
        seeds: how many seeds of each row, failed ones among them, it rests on; 0 before the first look.
        difference: with the trick minus without it over these seeds, with the interval of the last look at it.
    """

    verdict: str
    seeds: int
    difference: Difference


@dataclass(frozen=True)
class Standing:
    """How a race stands.

    Args:
        decisions: one for each comparison, in their order.
        needed: the rows and seeds to run before the next look, as (row, seed), earlier seeds first; empty at the end.
    """

    decisions: tuple[Decision, ...]
    needed: tuple[tuple[int, int], ...]

    def rows_needed(self) -> frozenset[int]:
        """The rows that take part in an open comparison and lack a seed for it."""
        return frozenset(row for row, _ in self.needed)


def decide(race: Race, comparisons: Iterable[Comparison], scores: Scores, higher_is_better: bool = True) -> Standing:
    """Say how each comparison of a race stands, and which seeds the open ones need next.

    Args:
        race: the rule.
        comparisons: all comparisons of the table, not only those that are open.
        scores: the scores so far.
        higher_is_better: False for losses and errors.
    """
    compared = tuple(comparisons)
    levels = nominal_levels(race.looks, race.alpha / len(compared)) if compared else ()
    decisions, needed = [], set()
    for comparison in compared:
        decision, missing = _follow(race, comparison, scores, levels, higher_is_better)
        decisions.append(decision)
        needed.update(missing)
    order = {seed: place for place, seed in enumerate(race.seeds)}
    return Standing(tuple(decisions), tuple(sorted(needed, key=lambda item: (order[item[1]], item[0]))))


def _follow(
    race: Race, comparison: Comparison, scores: Scores, levels: tuple[float, ...], higher_is_better: bool
) -> tuple[Decision, list[tuple[int, int]]]:
    """Go through the looks of a comparison until it stops, or lacks seeds for the next look."""
    rows = (comparison.with_, comparison.without)
    decision = Decision("open", 0, welch([], []))
    for look, level in zip(race.looks, levels, strict=True):
        seeds = race.seeds[:look]
        missing = [(row, seed) for row in rows for seed in seeds if seed not in scores.get(row, {})]
        if missing:
            return decision, missing
        difference = _difference(comparison, scores, seeds).at(level)
        decision = Decision(_verdict(race, difference, look, higher_is_better), look, difference)
        if decision.verdict != "open":
            break
    return decision, []


def _verdict(race: Race, difference: Difference, look: int, higher_is_better: bool) -> str:
    """What the interval of a look says. Scores without any spread are no ground to stop before the last look."""
    is_last = look == len(race.seeds)
    if min(difference.n_a, difference.n_b) == 0:
        return "no result"
    if difference.error > 0 or is_last:
        words = direction(difference, higher_is_better)
        if words:
            return words
        if race.effect is not None and -race.effect < difference.low and difference.high < race.effect:
            return "too small"
    return "undecided" if is_last else "open"


def _difference(comparison: Comparison, scores: Scores, seeds: tuple[int, ...]) -> Difference:
    first, second = (np.array([scores[row][seed] for seed in seeds]) for row in (comparison.with_, comparison.without))
    finite_first, finite_second = np.isfinite(first), np.isfinite(second)
    if comparison.pairs:
        both = finite_first & finite_second
        return paired(first[both], second[both])
    return welch(first[finite_first], second[finite_second])
