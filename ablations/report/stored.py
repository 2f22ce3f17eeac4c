"""What the report takes from the run store: learning curves, per-class recall, and operations an image.

The store need not be there: committed results have none. A file that cannot be read is left out and named.
"""

import csv
import json
import math
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ablations.report.examples import Outcomes, outcomes_of
from ablations.store import RunFolder, RunStore

CURVE_POINTS = 80
"""Epochs that a curve keeps: more than its panel can show."""
_Point = tuple[str, str, float, float]


@dataclass(frozen=True, eq=False)
class Stored:
    """What the store holds of a study.

    Args:
        curves: a line a training key, metric and epoch: `key`, `metric`, `epoch`, and over the seeds `mean`, `low` (the
            least), `high` (the greatest), `n`.
        recalls: by row, `(K,)`: the share of each class's test images that were predicted right, mean over the seeds.
        flops: by row, operations an image at test time, mean over the seeds.
        outcomes: by row, which test images each seed got right.
        damaged: a sentence for each file that was left out.
    """

    curves: pd.DataFrame
    recalls: dict[int, np.ndarray]
    flops: dict[int, float]
    outcomes: dict[int, Outcomes]
    damaged: tuple[str, ...]


def read_stored(records: list[dict[str, Any]], scores: pd.DataFrame, metric: str, store: RunStore) -> Stored:
    """Read what there is of a study's finished trainings.

    Args:
        records: the rows of `study.json`.
        scores: a line a row and seed, with `row`, `seed`, `status` and `key`.
        metric: the headline metric; curves are of its validation counterpart and of the training loss.
        store: the run store.
    """
    damaged: list[str] = []
    done = scores[scores["status"] == "done"]
    trainings = list(done[["key", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    metrics = curve_metrics(metric)
    curves = [point for key, seed in trainings for point in _training_curves(store, key, seed, metrics, damaged)]
    recalls, flops, outcomes = _row_scores(records, done, store, damaged)
    return Stored(_over_seeds(curves), recalls, flops, outcomes, tuple(damaged))


def curve_metrics(metric: str) -> tuple[str, ...]:
    """Return the metrics whose curves are drawn, as far as they were logged."""
    return ("train/loss", f"val/{metric.partition('/')[2]}")


def _training_curves(store: RunStore, key: str, seed: int, metrics: Iterable[str], damaged: list[str]) -> list[_Point]:
    path = store.folder(key, seed).metrics
    points: list[tuple[str, float, float]] = _try(path, lambda: _read_curves(path, metrics), store, damaged) or []
    return [(key, metric, epoch, value) for metric, epoch, value in points]


def _read_curves(path: Path, metrics: Iterable[str]) -> list[tuple[str, float, float]]:
    """Return metric, epoch and value wherever there is a finite one; pandas would take ten times as long."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file, strict=True)
        head = next(lines, [])
        if "epoch" not in head:
            raise ValueError("it has no column epoch")
        at_epoch, wanted = head.index("epoch"), [(metric, head.index(metric)) for metric in metrics if metric in head]
        points = []
        for line in lines:
            if len(line) != len(head):
                raise ValueError(f"line {lines.line_num} has {len(line)} columns instead of {len(head)}")
            epoch = float(line[at_epoch])
            points += [(metric, epoch, float(line[place])) for metric, place in wanted if line[place]]
    return [point for point in points if math.isfinite(point[1]) and math.isfinite(point[2])]


def _over_seeds(points: list[_Point]) -> pd.DataFrame:
    columns = ["key", "metric", "epoch", "mean", "low", "high", "n"]
    if not points:
        return pd.DataFrame(columns=columns)
    frame = pd.DataFrame(points, columns=["key", "metric", "epoch", "value"])
    groups = frame.groupby(["key", "metric", "epoch"], sort=True)["value"]
    joined = groups.agg(mean="mean", low="min", high="max", n="count").reset_index()
    return pd.concat([thinned(curve) for _, curve in joined.groupby(["key", "metric"])], ignore_index=True)[columns]


def thinned(curve: pd.DataFrame) -> pd.DataFrame:
    """Return at most `CURVE_POINTS` lines, evenly spaced, the first and the last among them."""
    if len(curve) <= CURVE_POINTS:
        return curve
    return curve.iloc[np.linspace(0, len(curve) - 1, CURVE_POINTS).round().astype(int)]


def _row_scores(
    records: list[dict[str, Any]], done: pd.DataFrame, store: RunStore, damaged: list[str]
) -> tuple[dict[int, np.ndarray], dict[int, float], dict[int, Outcomes]]:
    recalls: dict[int, np.ndarray] = {}
    flops: dict[int, float] = {}
    outcomes: dict[int, Outcomes] = {}
    for record in records:
        index, name = record["index"], record.get("inference", "")
        runs = {seed: store.folder(record.get("key", ""), seed) for seed in done.loc[done["row"] == index, "seed"]}
        read = {seed: _predictions(run, name, store, damaged) for seed, run in runs.items()}
        tested = {seed: arrays for seed, arrays in read.items() if arrays is not None}
        of_seeds = [class_recall(*arrays) for arrays in tested.values()]
        if of_seeds and len({len(recall) for recall in of_seeds}) == 1:
            recalls[index] = np.mean(of_seeds, axis=0)
        right = {seed: probabilities.argmax(axis=1) == targets for seed, (probabilities, targets) in tested.items()}
        found = outcomes_of(right, {seed: targets for seed, (_, targets) in tested.items()})
        if found is not None:
            outcomes[index] = found
        counts = [count for run in runs.values() if math.isfinite(count := _flops(run, name, store, damaged))]
        if counts:
            flops[index] = float(np.mean(counts))
    return recalls, flops, outcomes


def _predictions(
    run: RunFolder, inference: str, store: RunStore, damaged: list[str]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return class probabilities `(N, K)` and targets `(N,)` of a test; None if these are no classes of images."""
    path = run.predictions(inference)

    def read() -> tuple[np.ndarray, np.ndarray] | None:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if not {"probabilities", "targets"} <= set(arrays):
                return None
            probabilities, targets = arrays["probabilities"], arrays["targets"]
        if probabilities.ndim != 2 or targets.shape != probabilities.shape[:1]:
            return None
        if not np.isin(targets, np.arange(probabilities.shape[1])).all():
            raise ValueError("a target is none of the classes")
        return probabilities, targets

    return _try(path, read, store, damaged)


def class_recall(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the share of each class's images that were predicted right.

    Args:
        probabilities: `(N, K)`.
        targets: `(N,)`, in [0, K).

    Returns:
        `(K,)`, NaN for a class without images.
    """
    classes = probabilities.shape[1]
    right = probabilities.argmax(axis=1) == targets
    counts = np.bincount(targets, minlength=classes).astype(float)
    counts[counts == 0] = math.nan
    return np.bincount(targets, weights=right, minlength=classes) / counts


def _flops(run: RunFolder, inference: str, store: RunStore, damaged: list[str]) -> float:
    path = run.path / "scores" / f"{inference}.json"
    read = _try(path, lambda: json.loads(path.read_bytes())["costs"].get("flops_per_image"), store, damaged)
    return float(read) if isinstance(read, int | float) and read > 0 else math.nan


def _try(path: Path, read: Callable[[], Any], store: RunStore, damaged: list[str]) -> Any:
    """Return what was read; None if there is no such file, or if it cannot be read, which is noted."""
    try:
        return read()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, EOFError, csv.Error, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        damaged.append(f"{path.relative_to(store.path.parent)} cannot be read ({reason}) and is left out.")
        return None
