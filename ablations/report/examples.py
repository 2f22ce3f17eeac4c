"""How sure a gain is when the test images count as drawn by chance, too, as the seeds do.

The intervals of the table say how a gain varies with the seed on these test images; with a small test set that is not
how it varies on others. Where the store holds what each seed got on each image, both are drawn again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablations.statistics import Interval, crossed_difference
from ablations.table import Table, TableRow

RESAMPLES = 1000
_DRAWS = 40_000_000  # of test images in all, so that a large test set does not hold a report up


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Which test images each seed of a row got right.

    Args:
        right: by seed: `(E,)` bool.
        targets: `(E,)`: the classes, by which rows with the same test images are told.
    """

    right: Mapping[int, np.ndarray]
    targets: np.ndarray


@dataclass(frozen=True)
class ExampleInterval:
    """The gain of a row.

    Args:
        row: the number of the row.
        gain: in the table's unit, with its 95 % interval over other seeds and other test images.
        images: how many test images there are.
    """

    row: int
    gain: Interval
    images: int


def outcomes_of(right: dict[int, np.ndarray], targets: dict[int, np.ndarray]) -> Outcomes | None:
    """Return the outcomes of a row, by seed; None if there are none, or seeds were tested on different images."""
    first = next(iter(targets.values()), None)
    if first is None or any(not np.array_equal(first, other) for other in targets.values()):
        return None
    return Outcomes(right, first)


def example_intervals(
    table: Table, signs: Mapping[int, int], seeds: pd.DataFrame, outcomes: Mapping[int, Outcomes]
) -> list[ExampleInterval]:
    """Return the intervals of all gains that can have one: those whose scores are shares of right test images.

    Args:
        table: the table.
        signs: by row: -1 where the row leaves out what it is about.
        seeds: a line a row and seed, with `row`, `seed`, `status` and `value`, the score in the table's unit.
        outcomes: by row.
    """
    known = {row: found for row, found in outcomes.items() if _is_the_score(found, row, seeds, table.scale)}
    found = []
    for row in table.rows:
        pair = known.get(row.index), known.get(-1 if row.compared_to is None else row.compared_to)
        if row.gain is None or pair[0] is None or pair[1] is None:
            continue
        if np.array_equal(pair[0].targets, pair[1].targets):
            gain = _difference(row, pair[0], pair[1], signs[row.index], table.scale)
            found.append(ExampleInterval(row.index, gain, pair[0].targets.size))
    return found


def _is_the_score(outcomes: Outcomes, row: int, seeds: pd.DataFrame, scale: float) -> bool:
    """Return whether the share of right images is what the table scores, and of which all seeds are known."""
    done = seeds[(seeds["row"] == row) & (seeds["status"] == "done")]
    scores = dict(zip(done["seed"], done["value"], strict=True))
    if scores.keys() != outcomes.right.keys():
        return False
    return all(abs(right.mean() * scale - scores[seed]) < 1e-4 * scale for seed, right in outcomes.right.items())


def _difference(row: TableRow, with_: Outcomes, without: Outcomes, sign: int, scale: float) -> Interval:
    if sign < 0:
        with_, without = without, with_
    pairs = bool(row.gain is not None and row.gain.pairs)
    common = sorted(with_.right.keys() & without.right.keys())
    sides = [np.stack([side.right[seed] for seed in (common if pairs else side.right)]) for side in (with_, without)]
    resamples = max(200, min(RESAMPLES, _DRAWS // (60 * with_.targets.size)))
    generator = np.random.default_rng(row.index)
    return crossed_difference(scale * sides[0], scale * sides[1], generator, pairs, resamples=resamples)
