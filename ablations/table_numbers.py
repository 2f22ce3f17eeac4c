"""The numbers of a study's table, from the files of its results folder.

Seeds that failed are counted and named, never dropped. Rows are compared by `ablations.table_comparisons`.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ablations.interactions import interactions, shapley_values
from ablations.plan import group_leaders
from ablations.racing import Race, Standing, decide
from ablations.statistics import holm, holm_intervals, mean_interval, probability_of_improvement, sample_sd, verdict
from ablations.table_comparisons import NO_GAIN, Sample, gain_of, race_comparisons, race_words
from ablations.table_files import HEAD_KEYS, read_files
from ablations.table_records import Failure, Head, Mixture, Table, TableRow

__all__ = ["ALPHA", "CONFIDENCE", "Failure", "Head", "Mixture", "Table", "TableRow", "read_table"]

ALPHA = 0.05
CONFIDENCE = 0.95
COSTS = ("seconds", "peak_memory_mb", "parameters", "test_seconds", "flops_per_image")
RESAMPLES = 1000
"""How often seeds are drawn for the probability of improvement; always by the same generator, so tables repeat."""


def read_table(folder: Path) -> Table:
    """Make the table of a study from the files of its results folder.

    Args:
        folder: `results/<study>`, with `study.json`, `scores.csv` and, if there are costs, `costs.csv`.

    Raises:
        TableError: a file is missing, damaged, or does not fit the others, or no row has the study's metric.
        StudyError: the rule of a race cannot be kept.
    """
    files = read_files(folder)
    study, reference = files.study, files.study["reference"] or {"source": None}
    samples = _samples(files.scores)
    race, standing = _race(study, samples)
    table = Table(
        **{key: study[key] for key in ("name", "task", "mode", "metric", "scale", "unit", "higher_is_better")},
        seeds=tuple(study["seeds"]),
        source=reference["source"],
        source_unconfirmed=bool(reference.get("unconfirmed", False)),
        head=Head(**{key: study["head"][key] for key in HEAD_KEYS}),
        rows=_rows(study, samples),
        shared_trainings=_shared_trainings(files.scores),
        machines=_machines(files.scores),
        vary=tuple(study.get("vary", Table.vary)),
        mixtures=tuple(_mixtures(files.scores)),
        interactions=interactions(study, samples, ALPHA) if study["mode"] == "pairs" else (),
        shapley=shapley_values(study, samples, ALPHA) if study["mode"] == "shapley" else (),
        orders=tuple(map(tuple, study.get("orders", ()))),
    )
    if race is None or standing is None:
        return table
    return replace(table, race=race, needed=standing.needed, rows=_raced(table, race, standing))


def _samples(scores: pd.DataFrame) -> dict[int, Sample]:
    done, failed = (scores["status"] == "done").to_numpy(), (scores["status"] == "failed").to_numpy()
    columns = {name: scores[name].to_numpy(dtype=float) for name in ("value", *COSTS)}
    reasons, seeds, keys = (scores[name].to_numpy() for name in ("reason", "seed", "key"))
    samples: dict[Any, Sample] = {}
    for row, lines in scores.groupby("row").indices.items():
        finished, lost = lines[done[lines]], lines[failed[lines]]
        costs = {name: _finite(columns[name][finished]) for name in COSTS}
        usual = {name: float(np.median(values)) if values.size else math.nan for name, values in costs.items()}
        samples[row] = Sample(
            columns["value"][finished],
            tuple(seeds[finished].tolist()),
            frozenset(keys[finished].tolist()) - {""},
            usual["seconds"],
            int(costs["parameters"][0]) if costs["parameters"].size else None,
            _failures(reasons[lost].tolist(), seeds[lost].tolist()),
            *(usual[name] for name in ("peak_memory_mb", "test_seconds", "flops_per_image")),
        )
    return samples


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _failures(reasons: list[str], seeds: list[int]) -> tuple[Failure, ...]:
    seeds_of: dict[str, list[int]] = {}
    for reason, seed in zip(reasons, seeds, strict=True):
        seeds_of.setdefault(" ".join(reason.split()) or "no reason given", []).append(seed)
    return tuple(Failure(reason, tuple(sorted(of_reason))) for reason, of_reason in sorted(seeds_of.items()))


def _rows(study: dict[str, Any], samples: dict[int, Sample]) -> tuple[TableRow, ...]:
    plans: list[dict[str, Any]] = study["rows"]
    groups = {plan["index"]: plan.get("group", 1) for plan in plans}
    gains = [gain_of(plan, samples, groups, "split" in study.get("vary", ()), CONFIDENCE) for plan in plans]
    compared = [gain if gain is not None else NO_GAIN for gain in gains]
    adjusted, widened = holm([gain.p for gain in compared]), holm_intervals(compared, ALPHA)
    comparisons = sum(not math.isnan(p) for p in adjusted)
    rows = []
    for plan, gain, wide, p in zip(plans, gains, widened, adjusted, strict=True):
        sample, other = (samples.get(plan[which], Sample()) for which in ("index", "compared_to"))
        words, improvement = "", None
        if gain is not None:
            sds = sample_sd(sample.values), sample_sd(other.values)
            words = verdict(wide, *sds, ALPHA, study["higher_is_better"], comparisons)
            sides = (sample.values, other.values) if plan["sign"] > 0 else (other.values, sample.values)
            generator = np.random.default_rng(plan["index"])
            improvement = probability_of_improvement(
                *sides, generator, study["higher_is_better"], CONFIDENCE, RESAMPLES
            )
        expected = len(group_leaders(study["seeds"], groups[plan["index"]]))
        rows.append(
            TableRow(
                **{key: plan[key] for key in ("index", "name", "text", "trick", "compared_to", "published")},
                n_done=sample.values.size,
                n_failed=sample.n_failed,
                n_missing=expected - sample.values.size - sample.n_failed,
                score=mean_interval(sample.values, CONFIDENCE),
                sd=sample_sd(sample.values),
                gain=wide if gain is not None else None,
                p_adjusted=p,
                verdict=words,
                published_unconfirmed=plan["published_unconfirmed"],
                seconds=sample.seconds,
                seconds_ratio=_ratio(sample.seconds, other.seconds),
                parameters=sample.parameters,
                failures=sample.failures,
                improvement=improvement,
                n_trainings=len(plan.get("trainings") or [plan["index"]]),
                test_ratio=_ratio(sample.test_seconds, other.test_seconds),
                **{name: getattr(sample, name) for name in ("peak_memory_mb", "test_seconds", "flops_per_image")},
            )
        )
    return tuple(rows)


def _ratio(value: float, other: float) -> float:
    return value / other if other > 0 else math.nan


def _race(study: dict[str, Any], samples: dict[int, Sample]) -> tuple[Race | None, Standing | None]:
    """The rule of a study's race and how it stands; nothing if the study is no race."""
    if not study.get("race"):
        return None, None
    rule = study["race"]
    race = Race(tuple(study["seeds"][: rule["max_seeds"]]), rule["effect"], rule["first"], ALPHA)
    scores = {row: sample.run_seeds() for row, sample in samples.items()}
    comparisons = race_comparisons(study["rows"], "split" in study.get("vary", ()))
    return race, decide(race, comparisons, scores, study["higher_is_better"])


def _raced(table: Table, race: Race, standing: Standing) -> tuple[TableRow, ...]:
    """The rows as the race sees them: its intervals and verdicts, and no p, which would be that of one look."""
    decisions, rows = iter(standing.decisions), []
    for row in table.rows:
        wanted = sum(index == row.index for index, _ in standing.needed)
        row = replace(row, n_missing=wanted, n_spared=row.n_missing - wanted)
        if row.compared_to is not None:
            decision = next(decisions)
            words = race_words(decision, race)
            row = replace(row, gain=decision.difference, p_adjusted=math.nan, verdict=words, decision=decision)
        rows.append(row)
    return tuple(rows)


def _shared_trainings(scores: pd.DataFrame) -> tuple[tuple[int, ...], ...]:
    rows_of = scores[scores["key"] != ""].groupby("key")["row"].unique()
    groups = {tuple(sorted(rows.tolist())) for rows in rows_of}
    return tuple(sorted(group for group in groups if len(group) > 1))


def _machines(scores: pd.DataFrame) -> tuple[str, ...]:
    known = scores.loc[scores["status"] == "done", ["device", "threads"]].replace("", np.nan).dropna(subset="device")
    pairs = known.drop_duplicates().itertuples(index=False)
    return tuple(sorted(f"{device}{_in_brackets(threads)}" for device, threads in pairs))


def _in_brackets(threads: float) -> str:
    return f" ({threads:.0f} thread{'s' * (threads != 1)})" if threads > 0 else ""


def _mixtures(scores: pd.DataFrame) -> Iterable[Mixture]:
    """What differs between the trainings whose scores stand in the table: our code, libraries, devices."""
    done = scores[scores["status"] == "done"]
    yield from _mixture("versions of the code", done["row"], done["code"])
    installed = {text: _versions(text) for text in done["versions"].dropna().unique()}
    for name in sorted({name for versions in installed.values() for name in versions}):
        found = done["versions"].map(lambda text, name=name: installed.get(text, {}).get(name, ""))
        yield from _mixture(f"versions of {name}", done["row"], found)
    yield from _mixture("devices", done["row"], done["device"])


def _mixture(what: str, rows: pd.Series, values: pd.Series) -> Iterable[Mixture]:
    known = values.notna() & (values != "")
    rows_of = rows[known].groupby(values[known].astype(str)).unique()
    if len(rows_of) > 1:
        yield Mixture(what, {str(value): tuple(sorted(of_value.tolist())) for value, of_value in rows_of.items()})


def _versions(text: str) -> dict[str, str]:
    """The versions that a line of costs records; nothing where it holds something else."""
    try:
        versions = json.loads(text or "{}")
    except ValueError:
        return {}
    return versions if isinstance(versions, dict) else {}
