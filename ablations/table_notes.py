"""What stands around a study's table: how it was made, how to read it, and what went wrong.

Everything that a reader needs in order to trust the numbers is said here, failed seeds above all.
"""

import math
from collections.abc import Iterator

from ablations.statistics import smallest_difference, smallest_paired_difference
from ablations.table_costs import cost_notes
from ablations.table_format import counted, escape, metric_name, number, row_list, seed_list
from ablations.table_numbers import ALPHA
from ablations.table_records import Table

MODE_TEXTS = {
    "stack": "each row adds a trick to the row before",
    "leave-one-out": "each row leaves one trick out of all of them",
    "one-at-a-time": "each row adds one trick to the base",
    "pairs": "each row adds one trick or two to the base",
    "shapley": "each row adds a set of tricks to the base, as orders in which they join pass through it",
}


def head_lines(table: Table) -> Iterator[str]:
    head = table.head
    yield f"Command: `{' '.join(head.command.split())}`"
    yield f"Commit: {escape(head.commit or 'unknown')}"
    yield f"Versions: {escape(', '.join(f'{name} {version}' for name, version in head.versions.items()))}"
    yield f"Hardware: {escape(head.hardware)}"
    yield f"Date: {escape(head.date)}"
    most = "" if table.race is None else "at most "
    yield f"Seeds: {most}{len(table.seeds)} ({seed_list(table.seeds)})"
    yield f"Metric: {escape(metric_name(table))}, {'higher' if table.higher_is_better else 'lower'} is better"
    yield f"Mode: {table.mode}, {MODE_TEXTS.get(table.mode, 'each row has a row that it is compared with')}"
    if table.source is not None:
        yield f"Published gains: {escape(table.source)}{' (partly unconfirmed)' if table.source_unconfirmed else ''}"


def note_lines(table: Table) -> Iterator[str]:
    yield (
        "The score is the mean over the seeds that finished ± half the width of its 95 % interval (Student's t). The "
        "last epoch counts, never the best one."
    )
    sense = "" if table.higher_is_better else " Lower is better, so a negative difference is a gain."
    yield f"The gain is with the trick minus without it, then its interval ({_tests(table)}).{sense}"
    if table.race is not None:
        yield from _race_notes(table)
    elif len(table.seeds) == 1:
        yield "There is one seed only, so there are no intervals, no p and no verdicts. Chance is not told from effect."
    if table.comparisons:
        yield (
            f"p is the test's two-sided p-value, adjusted with Holm's method over all gains of this table "
            f"({table.comparisons}): if no trick did anything, at most 1 table in 20 would claim that one did."
        )
        yield (
            f"The verdict follows from the interval, which is as wide as Holm's method asks of its row, at least 95 %: "
            f"it leaves out zero where the adjusted p is up to {ALPHA}. That is a gain or a loss; the others are "
            f"undecided. The number of seeds is what each of the two rows needs to find the measured gain, were it the "
            f"true one, with a probability of 80 %."
        )
        yield from _resolution(table)
    if any(row.published is not None for row in table.rows):
        yield "The published gain is that of its source, on data of its own. Brackets: nobody has checked the number."
    yield "Seconds are the median time of the trainings, and in brackets how many times that of the row compared with."
    yield from cost_notes(table)
    if table.machines:
        warning = ", so times do not compare" if len(table.machines) > 1 else ""
        yield f"Trainings ran on {escape(' and '.join(table.machines))}{warning}."


def _tests(table: Table) -> str:
    """Name the test of the gains, and the rows that have another."""
    of_pairs = "a t test of the pairs that equal seeds make"
    if "split" in table.vary:
        return f"{of_pairs}, since each seed has a split of the data that all rows share"
    pairs = [str(row.index) for row in table.rows if row.gain is not None and row.gain.pairs]
    if not pairs:
        return "Welch's t test, which takes the seeds as unpaired"
    which = f"row {pairs[0]} is" if len(pairs) == 1 else f"rows {', '.join(pairs[:-1])} and {pairs[-1]} are"
    return (
        f"Welch's t test, which takes the seeds as unpaired; {which} compared with the same trainings scored in "
        f"another way, by {of_pairs}"
    )


def _race_notes(table: Table) -> Iterator[str]:
    """Say by which rule the rows got their seeds, and what their intervals and verdicts mean."""
    race = table.race
    if race is None:
        return
    small = "" if race.effect is None else f", or when the gain lies within ±{race.effect:g}, too small to matter"
    yield (
        f"The seeds are a race: from {race.first} seeds on, each comparison is looked at after every seed and stops "
        f"when its interval leaves out zero{small}, at the latest after {len(race.seeds)} seeds. A row gets seeds as "
        f"long as a comparison with it is open. Gain and verdict are those of the look that stopped it, whose number "
        f"of seeds stands in brackets; later seeds leave them alone."
    )
    yield (
        f"The intervals are repeated ones: those of all {sum(row.gain is not None for row in table.rows)} gains and of "
        f"all looks hold together in 95 of 100 races. So if no trick did anything, at most 1 table in 20 would claim "
        f"that one did. The intervals of scores, and the scores of rows that stopped early, know nothing of the "
        f"stopping. There are no p-values, since each would be that of one look."
    )


def _resolution(table: Table) -> Iterator[str]:
    """Say which gains this table could have found, from the spread of the seeds pooled over the rows."""
    level = ALPHA / table.comparisons
    pairs = [row.gain for row in table.rows if row.gain is not None and row.gain.pairs]
    if len(pairs) == table.comparisons:
        sd = _pooled([(gain.pairs - 1, gain.pairs * gain.error**2) for gain in pairs])
        smallest, what = smallest_paired_difference(len(table.seeds), sd, level), "The differences of pairs vary"
    else:
        sd = _pooled([(row.n_done - 1, row.sd**2) for row in table.rows if row.n_done > 1])
        smallest, what = smallest_difference(len(table.seeds), sd, level), "Seeds differ"
    if sd > 0:
        yield (
            f"{what} with a standard deviation of {number(table, sd)}. With {len(table.seeds)} seeds a row, a "
            f"true gain is found with a probability of 80 % from {number(table, smallest)} on; smaller ones are more "
            f"likely to stay undecided."
        )


def _pooled(spreads: list[tuple[int, float]]) -> float:
    """The standard deviation over all rows, from the degrees of freedom and the variance of each."""
    return math.sqrt(sum(df * variance for df, variance in spreads) / sum(df for df, _ in spreads))


def incident_lines(table: Table) -> Iterator[str]:
    """What happened to seeds, row by row, and what the trainings should share and do not."""
    total = len(table.seeds if table.race is None else table.race.seeds)
    for row in table.rows:
        if row.failures:
            reasons = "; ".join(
                f"{failure.reason} (seed{'s' * (len(failure.seeds) > 1)} {seed_list(failure.seeds)})"
                for failure in row.failures
            )
            tried = row.n_done + row.n_failed if table.race is not None else total
            yield f"Row {row.index} ({row.name}): {row.n_failed} of {tried} failed: {reasons}"
    for row in table.rows:
        if row.n_missing and table.race is not None:
            yield f"Row {row.index} ({row.name}): {counted(row.n_missing, 'seed')} not run yet, the race is open"
        elif row.n_missing:
            yield f"Row {row.index} ({row.name}): {row.n_missing} of {total} not run"
        elif row.n_spared:
            yield f"Row {row.index} ({row.name}): stopped after {row.n_done + row.n_failed} of at most {total} seeds"
    for mixture in table.mixtures:
        parts = (f"{value} ({row_list(rows)})" for value, rows in mixture.rows.items())
        yield f"The scores come from different {mixture.what}: {'; '.join(parts)}"
