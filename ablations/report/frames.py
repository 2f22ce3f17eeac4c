"""What the report's figures are drawn from: plain frames of the table's own numbers, nothing computed anew.

A frame has a line a row of the table, or a line a row and seed. Figures draw a frame and no more, so a test that
compares frames with `scores.csv` covers what is drawn.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.table import Table
from ablations.table_files import read_files

VERDICT_KINDS = {"gain": "gain", "loss": "loss", "undecided": "undecided", "open": "undecided", "too small": "small"}
"""By how a verdict begins: its kind. An open race is undecided so far."""


def verdict_kind(verdict: str) -> str:
    """Return what a verdict comes to: gain, loss, undecided, small (too small to matter), or none of these."""
    return next((kind for start, kind in VERDICT_KINDS.items() if verdict.startswith(start)), "none")


def seeds_frame(folder: Path) -> pd.DataFrame:
    """Return a line a row and seed: `row`, `seed`, `status`, `reason`, `key`, and `value` in the table's unit.

    Raises:
        TableError: a file that the table needs is missing or damaged.
    """
    scores = read_files(folder).scores
    return scores[["row", "seed", "status", "reason", "key", "value"]].sort_values(["row", "seed"], ignore_index=True)


def waterfall_frame(table: Table, records: Mapping[int, Mapping[str, Any]]) -> pd.DataFrame:
    """Return where each row starts and where it leads, in the table's unit.

    A row starts at the mean of the row that it is compared with (`origin`); its gain leads from there to `end`, its own
    mean, unless only some seeds count for the gain. `low` and `high` are the gain's interval, seen from the origin. A
    row that is compared with none has no origin, and the interval of its score.

    Args:
        table: the table.
        records: the rows of `study.json` by index, for the sign of their gains.

    Returns:
        The columns `row`, `name`, `origin`, `end`, `low`, `high`, `gain`, `kind`; NaN is what is not known.
    """
    scores = {row.index: row.score for row in table.rows}
    lines = []
    for row in table.rows:
        origin, end, gain, low, high = math.nan, row.score.estimate, math.nan, row.score.low, row.score.high
        if row.gain is not None and row.compared_to is not None:
            origin, gain = scores[row.compared_to].estimate, row.gain.estimate
            sign = records[row.index]["sign"]
            end = origin + sign * gain
            low, high = sorted(origin + sign * _finite(bound) for bound in (row.gain.low, row.gain.high))
        line = {"row": row.index, "name": row.name, "origin": origin, "end": end, "low": low, "high": high}
        lines.append({**line, "gain": gain, "kind": verdict_kind(row.verdict)})
    return pd.DataFrame(lines)


def published_frame(table: Table) -> pd.DataFrame:
    """Return the rows with a published gain, beside the measured one and its interval.

    Returns:
        The columns `row`, `name`, `published`, `unconfirmed`, `gain`, `low`, `high`, `kind`.
    """
    lines = [
        {
            "row": row.index,
            "name": row.name,
            "published": row.published,
            "unconfirmed": row.published_unconfirmed,
            "gain": row.gain.estimate,
            "low": _finite(row.gain.low),
            "high": _finite(row.gain.high),
            "kind": verdict_kind(row.verdict),
        }
        for row in table.rows
        if row.published is not None and row.gain is not None and not math.isnan(row.gain.estimate)
    ]
    return pd.DataFrame(lines, columns=["row", "name", "published", "unconfirmed", "gain", "low", "high", "kind"])


def cost_frame(table: Table, flops: Mapping[int, float]) -> pd.DataFrame:
    """Return what each row gained over the first row, beside what it costs as a multiple of the first row's cost.

    Args:
        table: the table.
        flops: operations an image at test time, by row, as far as known.

    Returns:
        The columns `row`, `name`, `gain` (mean minus the first row's mean), `training_time` and `inference_flops` (both
        times the first row's; NaN if unknown) and `kind`.
    """
    base = table.rows[0]
    lines = [
        {
            "row": row.index,
            "name": row.name,
            "gain": row.score.estimate - base.score.estimate,
            "training_time": _ratio(row.seconds, base.seconds),
            "inference_flops": _ratio(flops.get(row.index, math.nan), flops.get(base.index, math.nan)),
            "kind": verdict_kind(row.verdict),
        }
        for row in table.rows
    ]
    return pd.DataFrame(lines)


def frontier(costs: pd.Series, gains: pd.Series, higher_is_better: bool) -> list[int]:
    """Return the places of the points that none beats at equal or lower cost, from the cheapest on."""
    worth = gains if higher_is_better else -gains
    known = [
        place for place in range(len(costs)) if not (math.isnan(costs.iloc[place]) or math.isnan(gains.iloc[place]))
    ]
    best, found = -math.inf, []
    for place in sorted(known, key=lambda place: (costs.iloc[place], -worth.iloc[place])):
        if worth.iloc[place] > best:
            best = worth.iloc[place]
            found.append(place)
    return found


def _finite(bound: float) -> float:
    """A bound that can be drawn: early in a race, intervals reach to infinity."""
    return bound if math.isfinite(bound) else math.nan


def _ratio(value: float, base: float) -> float:
    return value / base if base > 0 else math.nan
