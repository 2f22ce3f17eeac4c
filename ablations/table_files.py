"""The plain files of a results folder from which a table is made, read and checked against each other.

`study.json` says what the rows are, `scores.csv` has a line a row and seed, `costs.csv` a line a training, and
`inference_costs.csv` what the test of a row and seed cost. Scores alone decide every number but the costs, so
`scores.csv` must be whole; the files of costs may lack columns or not be there at all.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ablations.errors import UserError
from ablations.study import MODES

STATUSES = ("done", "failed", "missing")
SCORE_COLUMNS = ("row", "name", "seed", "status", "reason", "key", "inference")
COST_COLUMNS = ("seconds", "peak_memory_mb", "parameters", "device", "threads", "code", "versions")
TEST_COLUMNS = {"seconds": "test_seconds", "flops_per_image": "flops_per_image"}
"""Columns of `inference_costs.csv`, and what they are called beside those of the trainings."""
_BEHIND: dict[str, tuple[str, Callable[[np.ndarray], Any]]] = {
    "seconds": ("trainings", np.sum),
    "peak_memory_mb": ("trainings", np.max),
    "parameters": ("networks", np.sum),
}
"""Which trainings of a row decide a cost, and how."""
TOP_KEYS = ["name", "task", "mode", "metric", "scale", "unit", "higher_is_better", "seeds", "reference", "rows", "head"]
ROW_KEYS = ["index", "name", "text", "trick", "compared_to", "sign", "published", "published_unconfirmed"]
RACE_KEYS = ["max_seeds", "first", "effect"]
HEAD_KEYS = ["command", "commit", "versions", "hardware", "date"]


class TableError(UserError):
    """The files of a results folder cannot be made into a table."""


@dataclass(frozen=True, eq=False)
class TableFiles:
    """What the files say.

    Args:
        study: `study.json`.
        scores: a line a row and seed, with the columns `row`, `seed`, `status`, `reason`, `key`, `value` (the headline
            metric in the table's unit; NaN unless done), `seconds`, `peak_memory_mb` and `parameters` of all trainings
            behind it, `device`, `threads`, `code` and `versions` of its own, and `test_seconds` and `flops_per_image`
            of its test (NaN if unknown).
    """

    study: dict[str, Any]
    scores: pd.DataFrame


def read_files(folder: Path) -> TableFiles:
    """Read the files of a results folder.

    Raises:
        TableError: a file is missing, damaged, or does not fit the others, or no row has the study's metric.
    """
    study = _read_study(folder / "study.json")
    scores = _read_scores(folder / "scores.csv", study)
    costs, tests = _read_costs(folder / "costs.csv"), _read_tests(folder / "inference_costs.csv")
    with_costs = scores.merge(costs, on=["key", "seed"], how="left").merge(tests, on=["row", "seed"], how="left")
    return TableFiles(study, _with_all_trainings(with_costs, study, costs))


def _read_study(path: Path) -> dict[str, Any]:
    study = _read(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    lacking = _lacking(study, TOP_KEYS)
    if not lacking:
        lacking += [f"head.{key}" for key in _lacking(study["head"], HEAD_KEYS)]
        lacking += [f"reference.{key}" for key in _lacking(study["reference"] or {"source": 0}, ["source"])]
        lacking += [f"race.{key}" for key in _lacking(study.get("race") or dict.fromkeys(RACE_KEYS), RACE_KEYS)]
        lacking += _lacking(study, ["orders"] if study["mode"] == "shapley" else [])
        lacking += [f"rows[{i}].{key}" for i, row in enumerate(study["rows"]) for key in _lacking(row, ROW_KEYS)]
    if lacking:
        raise _error(path, f"it lacks {', '.join(lacking)}")
    indices = [row["index"] for row in study["rows"]]
    lost = [row["name"] for row in study["rows"] if row["compared_to"] not in (None, *indices)]
    if lost:
        raise _error(path, f"it compares {', '.join(map(repr, lost))} with rows that it does not have")
    if len(set(indices)) < len(indices):
        raise _error(path, f"the numbers of its rows, {indices}, are not all different")
    return study


def _lacking(mapping: Any, keys: list[str]) -> list[str]:
    return [key for key in keys if not isinstance(mapping, dict) or key not in mapping]


def _read_scores(path: Path, study: dict[str, Any]) -> pd.DataFrame:
    scores = _read_csv(path, SCORE_COLUMNS)
    scores = scores.assign(row=_whole(path, scores["row"]), seed=_whole(path, scores["seed"]))
    known_row = scores["row"].isin([row["index"] for row in study["rows"]])
    known_seed = scores["seed"].isin(study["seeds"])
    checks = {
        f"a status that is none of {', '.join(STATUSES)}": ~scores["status"].isin(STATUSES),
        "a row or seed that study.json does not have": ~(known_row & known_seed),
        "a row and seed that stood before": scores.duplicated(["row", "seed"]),
    }
    found = [f"{problem} (line {_first_line(lines)})" for problem, lines in checks.items() if lines.any()]
    if found:
        raise _error(path, f"it has {'; '.join(found)}")
    return _with_value(path, scores, study["metric"], study["scale"])


def _with_value(path: Path, scores: pd.DataFrame, metric: str, scale: float) -> pd.DataFrame:
    """Turn the headline metric into `value`; one that is not a finite number makes its seed a failed one."""
    done = scores["status"] == "done"
    metrics = [column for column in scores.columns.astype(str) if column not in SCORE_COLUMNS]
    if metric not in metrics and done.any():
        raise TableError(
            f"{path}: no row has the metric {metric!r}. There are: {', '.join(metrics) or 'none'}. "
            f"Set one of them as the study's `metric`."
        )
    value = pd.Series(np.nan, index=scores.index)
    if metric in metrics:
        value = _decimal(path, scores[metric]) * scale
    unusable = done & ~np.isfinite(value)
    return scores[["row", "seed", "key"]].assign(
        status=scores["status"].mask(unusable, "failed"),
        reason=scores["reason"].mask(unusable, f"{metric} is not a finite number"),
        value=value.where(done & ~unusable),
    )


def _read_costs(path: Path) -> pd.DataFrame:
    columns = ["key", "seed", *COST_COLUMNS]
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype="int64" if name == "seed" else object) for name in columns})
    costs = _read_csv(path, ("key", "seed"))
    costs = costs.assign(seed=_whole(path, costs["seed"]))
    twice = costs.duplicated(["key", "seed"])
    if twice.any():
        raise _error(path, f"it has a training that stood before (line {_first_line(twice)})")
    numbers = [name for name in ("seconds", "peak_memory_mb", "parameters", "threads") if name in costs]
    return costs.assign(**{name: _decimal(path, costs[name]) for name in numbers}).reindex(columns=columns)


def _read_tests(path: Path) -> pd.DataFrame:
    columns = ["row", "seed", *TEST_COLUMNS]
    if not path.exists():
        tests = pd.DataFrame({name: pd.Series(dtype="int64" if name in ("row", "seed") else float) for name in columns})
        return tests.rename(columns=TEST_COLUMNS)
    tests = _read_csv(path, ("row", "seed"))
    tests = tests.assign(row=_whole(path, tests["row"]), seed=_whole(path, tests["seed"]))
    twice = tests.duplicated(["row", "seed"])
    if twice.any():
        raise _error(path, f"it has a row and seed that stood before (line {_first_line(twice)})")
    numbers = {name: _decimal(path, tests[name]) for name in TEST_COLUMNS if name in tests}
    return tests.assign(**numbers).reindex(columns=columns).rename(columns=TEST_COLUMNS)


def _with_all_trainings(scores: pd.DataFrame, study: dict[str, Any], costs: pd.DataFrame) -> pd.DataFrame:
    """Let a row that needs several trainings cost their seconds and parameters together, and the largest memory.

    What one of them does not tell is unknown of the row, too.
    """
    of_training = costs.set_index(["key", "seed"])
    for row in study["rows"]:
        for column, (which, together) in _BEHIND.items():
            behind = row.get(which) or []
            if len(behind) < 2:
                continue
            known = of_training[column].to_dict()
            for line in scores.index[scores["row"] == row["index"]]:
                values = [known.get((key, scores.at[line, "seed"] + offset), np.nan) for key, offset in behind]
                scores.at[line, column] = together(np.array(values, dtype=float))
    return scores


def _first_line(lines: pd.Series) -> int:
    """The number of the first such line in its file, whose first line is the header."""
    return int(lines.to_numpy().argmax()) + 2


def _read_csv(path: Path, required: Iterable[str]) -> pd.DataFrame:
    """Read a CSV file as text, as it is written: a key such as 001e5 is no number, and "NaN" can be a reason."""
    frame = _read(path, lambda: pd.read_csv(path, dtype=str, keep_default_na=False))
    lacking = [column for column in required if column not in frame]
    if lacking:
        raise _error(path, f"it lacks the columns {', '.join(lacking)}")
    return frame


def _whole(path: Path, column: pd.Series) -> pd.Series:
    return pd.Series(_parsed(path, column, int), index=column.index, dtype="int64")


def _decimal(path: Path, column: pd.Series) -> pd.Series:
    """Parse with Python's float, which keeps every digit; NaN where there is nothing."""
    return pd.Series(_parsed(path, column, lambda text: float(text or "nan")), index=column.index, dtype="float64")


def _parsed(path: Path, column: pd.Series, parse: Callable[[str], Any]) -> list[Any]:
    try:
        return [parse(text) for text in column]
    except ValueError as error:
        raise _error(path, f"its column {column.name} holds something else than numbers ({error})") from error


def _read(path: Path, reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except FileNotFoundError:
        raise _error(path, "there is no such file") from None
    except (OSError, ValueError) as error:  # broken JSON, CSV, text and numbers are all ValueErrors
        raise _error(path, f"it cannot be read ({' '.join(str(error).split())})") from error


def _error(path: Path, problem: str) -> TableError:
    folder = path.parent
    study = f"{folder.parent.name} --mode {folder.name}" if folder.name in MODES else folder.name
    return TableError(f"{path}: {problem}. Write it again with `ablate run {study}`.")
