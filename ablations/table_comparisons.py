"""Which rows of a table are compared, and how: by Welch's test, or in pairs.

Rows of equal seeds make pairs where a seed gives both rows the same split of the data, and where both score the same
trainings. Everything else is unpaired: equal seeds of two trainings share nothing that would make them alike.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ablations.errors import StudyError
from ablations.racing import Comparison, Decision, Race
from ablations.statistics import Difference, paired, welch
from ablations.table_records import Failure

NO_GAIN = welch([], [])


@dataclass(frozen=True, eq=False)
class Sample:
    """What there is of one row.

    Args:
        values: `(N,)` scores of the seeds that finished.
        seeds: these seeds, in the same order.
        keys: the keys of their trainings.
        seconds: median time of its trainings.
        parameters: number of parameters.
        failures: why the other seeds failed.
        peak_memory_mb: median of the largest memory of its trainings.
        test_seconds: median time of a test.
        flops_per_image: floating-point operations for a test image.
    """

    values: np.ndarray = field(default_factory=lambda: np.empty(0))
    seeds: tuple[int, ...] = ()
    keys: frozenset[str] = frozenset()
    seconds: float = math.nan
    parameters: int | None = None
    failures: tuple[Failure, ...] = ()
    peak_memory_mb: float = math.nan
    test_seconds: float = math.nan
    flops_per_image: float = math.nan

    @property
    def n_failed(self) -> int:
        return sum(len(failure.seeds) for failure in self.failures)

    def run_seeds(self) -> dict[int, float]:
        """The score by seed of every seed that was run; NaN where it failed."""
        lost = {seed: math.nan for failure in self.failures for seed in failure.seeds}
        return {**lost, **dict(zip(self.seeds, self.values.tolist(), strict=True))}

    def by_group(self, group: int) -> dict[int, float]:
        """The mean over `group` consecutive seeds, by the first of them, as far as all of them have a score."""
        scores = dict(zip(self.seeds, self.values.tolist(), strict=True))
        members = {first: [scores.get(first + place, math.nan) for place in range(group)] for first in scores}
        means = {first: float(np.mean(values)) for first, values in members.items()}
        return {first: mean for first, mean in means.items() if math.isfinite(mean)}


def gain_of(
    plan: Mapping[str, Any],
    samples: Mapping[int, Sample],
    groups: Mapping[int, int],
    split_varies: bool,
    confidence: float,
) -> Difference | None:
    """The row with the trick minus the one without it; which of the two has it, the row's sign says.

    Args:
        plan: a row of `study.json`.
        samples: by row: what there is of it.
        groups: by row: how many consecutive seeds make one score of it.
        split_varies: whether each seed has a split of its own.
        confidence: that of the interval.

    Returns:
        The difference; None for a row that is compared with none.
    """
    if plan["compared_to"] is None:
        return None
    rows = (plan["index"], plan["compared_to"]) if plan["sign"] > 0 else (plan["compared_to"], plan["index"])
    sides = [samples.get(row, Sample()) for row in rows]
    sizes = [groups[row] for row in rows]
    shares = bool(sides[0].keys) and sides[0].keys == sides[1].keys
    if (shares or split_varies) and (sizes[0] == sizes[1] or min(sizes) == 1):
        first, second = (
            side.by_group(1 if size == max(sizes) else max(sizes)) for side, size in zip(sides, sizes, strict=True)
        )
        both = sorted(first.keys() & second.keys())
        return paired([first[seed] for seed in both], [second[seed] for seed in both], confidence)
    return welch(sides[0].values, sides[1].values, confidence)


def race_comparisons(rows: list[dict[str, Any]], split_varies: bool) -> tuple[Comparison, ...]:
    """The comparisons of a race, from the rows of `study.json`.

    Raises:
        StudyError: a row makes each score out of several seeds, which a race cannot add one by one.
    """
    grouped = [row["name"] for row in rows if row.get("group", 1) > 1]
    if grouped:
        names = ", ".join(map(repr, grouped))
        raise StudyError(
            f"a race adds one seed at a time, but {names} makes each score out of several. Leave out --until-decided, "
            f"or the row."
        )
    key = {row["index"]: row.get("key") or row["index"] for row in rows}
    comparisons = []
    for row in rows:
        if row["compared_to"] is not None:
            pair = (row["index"], row["compared_to"]) if row["sign"] > 0 else (row["compared_to"], row["index"])
            comparisons.append(Comparison(*pair, pairs=split_varies or key[pair[0]] == key[pair[1]]))
    return tuple(comparisons)


def race_words(decision: Decision, race: Race) -> str:
    """The verdict of a race on a row, for its table."""
    after = f" (after {decision.seeds} seeds)" if decision.seeds else ""
    if decision.verdict == "too small":
        return f"too small to matter (within ±{race.effect:g})"
    return decision.verdict + after if decision.verdict in ("open", "undecided") else decision.verdict
