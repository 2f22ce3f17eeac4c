"""The numbers of a study's table.

Seeds that failed are counted and named, never dropped. A gain is always with the trick minus without it, in every mode
of a study. The records here hold full precision; `ablations.table` rounds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ablations.statistics import Difference, Interval, holm, mean_interval, sample_sd, verdict, welch
from ablations.table_files import HEAD_KEYS, read_files

ALPHA = 0.05
CONFIDENCE = 0.95


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
        n_missing: seeds that have not been run.
        score: mean over the seeds with a score, and its interval.
        sd: standard deviation over these seeds.
        gain: with the trick minus without it; None if the row is compared with none.
        p_adjusted: p of the gain, adjusted over the table; NaN without one.
        verdict: the gain in words; empty if the row is compared with none.
        published: the gain that was published, in the table's unit, or None.
        published_unconfirmed: whether nobody has checked that number against its source.
        seconds: mean time of a training; NaN if unknown.
        seconds_ratio: `seconds` divided by that of the row compared with; NaN if unknown.
        parameters: number of parameters, or None if unknown.
        failures: why seeds failed.
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
        mode: how rows were made from tricks: `stack`, `leave-one-out` or `one-at-a-time`.
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

    @property
    def comparisons(self) -> int:
        """Number of gains that have a p-value; p is adjusted over these."""
        return sum(not math.isnan(row.p_adjusted) for row in self.rows)


def read_table(folder: Path) -> Table:
    """Make the table of a study from the files of its results folder.

    Args:
        folder: `results/<study>`, with `study.json`, `scores.csv` and, if there are costs, `costs.csv`.

    Raises:
        TableError: a file is missing, damaged, or does not fit the others, or no row has the study's metric.
    """
    files = read_files(folder)
    study, reference = files.study, files.study["reference"] or {"source": None}
    return Table(
        **{key: study[key] for key in ("name", "task", "mode", "metric", "scale", "unit", "higher_is_better")},
        seeds=tuple(study["seeds"]),
        source=reference["source"],
        source_unconfirmed=bool(reference.get("unconfirmed", False)),
        head=Head(**{key: study["head"][key] for key in HEAD_KEYS}),
        rows=_rows(study, _samples(files.scores)),
        shared_trainings=_shared_trainings(files.scores),
        machines=_machines(files.scores),
    )


@dataclass(frozen=True, eq=False)
class _Sample:
    """What there is of one row."""

    values: np.ndarray
    seconds: float
    parameters: int | None
    failures: tuple[Failure, ...]

    @property
    def n_failed(self) -> int:
        return sum(len(failure.seeds) for failure in self.failures)


_NOTHING = _Sample(np.empty(0), math.nan, None, ())


def _samples(scores: pd.DataFrame) -> dict[int, _Sample]:
    done, failed = (scores["status"] == "done").to_numpy(), (scores["status"] == "failed").to_numpy()
    columns = {name: scores[name].to_numpy(dtype=float) for name in ("value", "seconds", "parameters")}
    reasons, seeds = scores["reason"].to_numpy(), scores["seed"].to_numpy()
    samples: dict[Any, _Sample] = {}
    for row, lines in scores.groupby("row").indices.items():
        values, seconds, parameters = (_finite(column[lines[done[lines]]]) for column in columns.values())
        lost = lines[failed[lines]]
        samples[row] = _Sample(
            values,
            float(seconds.mean()) if seconds.size else math.nan,
            int(parameters[0]) if parameters.size else None,
            _failures(reasons[lost].tolist(), seeds[lost].tolist()),
        )
    return samples


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _failures(reasons: list[str], seeds: list[int]) -> tuple[Failure, ...]:
    seeds_of: dict[str, list[int]] = {}
    for reason, seed in zip(reasons, seeds, strict=True):
        seeds_of.setdefault(" ".join(reason.split()) or "no reason given", []).append(seed)
    return tuple(Failure(reason, tuple(sorted(of_reason))) for reason, of_reason in sorted(seeds_of.items()))


def _rows(study: dict[str, Any], samples: dict[int, _Sample]) -> tuple[TableRow, ...]:
    plans: list[dict[str, Any]] = study["rows"]
    gains = [_gain(plan, samples) for plan in plans]
    adjusted = holm([gain.p if gain is not None else math.nan for gain in gains])
    comparisons = sum(not math.isnan(p) for p in adjusted)
    rows = []
    for plan, gain, p in zip(plans, gains, adjusted, strict=True):
        sample = samples.get(plan["index"], _NOTHING)
        other = samples.get(plan["compared_to"], _NOTHING)
        words = ""
        if gain is not None:
            sds = sample_sd(sample.values), sample_sd(other.values)
            words = verdict(gain, p, *sds, ALPHA, study["higher_is_better"], comparisons)
        rows.append(
            TableRow(
                **{key: plan[key] for key in ("index", "name", "text", "trick", "compared_to", "published")},
                n_done=sample.values.size,
                n_failed=sample.n_failed,
                n_missing=len(study["seeds"]) - sample.values.size - sample.n_failed,
                score=mean_interval(sample.values, CONFIDENCE),
                sd=sample_sd(sample.values),
                gain=gain,
                p_adjusted=p,
                verdict=words,
                published_unconfirmed=plan["published_unconfirmed"],
                seconds=sample.seconds,
                seconds_ratio=sample.seconds / other.seconds if other.seconds > 0 else math.nan,
                parameters=sample.parameters,
                failures=sample.failures,
            )
        )
    return tuple(rows)


def _gain(plan: dict[str, Any], samples: dict[int, _Sample]) -> Difference | None:
    """With the trick minus without it: of the two rows, the one compared with has the trick where the sign is -1."""
    if plan["compared_to"] is None:
        return None
    row, other = (samples.get(plan[which], _NOTHING).values for which in ("index", "compared_to"))
    return welch(row, other, CONFIDENCE) if plan["sign"] > 0 else welch(other, row, CONFIDENCE)


def _shared_trainings(scores: pd.DataFrame) -> tuple[tuple[int, ...], ...]:
    rows_of = scores[scores["key"] != ""].groupby("key")["row"].unique()
    groups = {tuple(sorted(rows.tolist())) for rows in rows_of}
    return tuple(sorted(group for group in groups if len(group) > 1))


def _machines(scores: pd.DataFrame) -> tuple[str, ...]:
    known = scores.loc[scores["status"] == "done", ["device", "threads"]].replace("", np.nan).dropna(subset="device")
    pairs = known.drop_duplicates().itertuples(index=False)
    return tuple(
        sorted(f"{device} ({threads:.0f} threads)" if threads > 0 else str(device) for device, threads in pairs)
    )
