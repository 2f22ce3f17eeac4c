"""The results folder of a study: what was planned, and every score in it, gathered from the run store.

    results/<study>/   study.json  recipes/<row>.yaml  scores.csv  costs.csv  table.md  table.csv

`study.json` says what the rows are and where their trainings lie, so everything else can be made again from the store.
`scores.csv` holds nothing that differs between two runs of the same study; what a training costs is in `costs.csv`.
"""

import csv
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ablations.errors import StoreError
from ablations.plan import Plan, Row
from ablations.store import RunFolder, RunStore, write_json, write_text
from ablations.yaml_file import dump_yaml

COST_COLUMNS = (
    "seconds", "images_per_second", "peak_memory_mb", "parameters",
    "device", "accelerator", "threads", "code", "versions",
)  # fmt: skip


def study_folder(results: Path, plan: Plan, own_mode: str) -> Path:
    """Return the folder of a study's table; a mode other than the study's own has a folder inside it."""
    folder = results / plan.study.name
    return folder if plan.study.mode == own_mode else folder / plan.study.mode


def check_unchanged(folder: Path, plan: Plan) -> None:
    """See that a folder holds no table of another version of the study.

    More rows at the end and other seeds are no other version: no row that stands in the table would change.

    Raises:
        StoreError: it does; the message names the rows and says what to do.
    """
    stored = read_study_record(folder)
    if stored is None:
        return
    new = {(row.name, row.definition) for row in plan.rows}
    changed = [row["name"] for row in stored["rows"] if (row["name"], row.get("definition")) not in new]
    if changed:
        raise StoreError(
            f"{folder} holds the table of another version of this study: {_few(changed)} would change or go. Add "
            f"--replace to put the new table in its place (no finished training is lost), choose another --results, or "
            f"give the study another name."
        )


def read_study_record(folder: Path) -> dict[str, Any] | None:
    """Return what a results folder says of its study; `None` if it says nothing.

    Raises:
        StoreError: the file is there and cannot be read.
    """
    path = folder / "study.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict) and isinstance(record.get("rows"), list):
            return record
        raise ValueError("it holds no rows")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}). Remove it and run the study again; no training is lost."
        ) from None


def write_study(folder: Path, plan: Plan, store: RunStore, head: dict[str, Any]) -> None:
    """Write what a study is: its rows, each as a recipe that runs alone, and where its trainings lie.

    Seeds that an earlier run of the same study finished stay in the table.
    """
    earlier = read_study_record(folder)
    seeds = list(plan.study.seeds)
    for seed in earlier["seeds"] if earlier else []:
        if seed not in seeds and any(store.folder(row.key, seed).result() for row in plan.rows):
            seeds.append(seed)
    study, reference = plan.study, plan.study.reference
    write_json(
        folder / "study.json",
        {
            "name": study.name,
            "task": study.task,
            "mode": study.mode,
            "metric": study.metric,
            "scale": study.scale,
            "unit": "%" if study.scale == 100 else "",
            "higher_is_better": study.higher_is_better,
            "seeds": sorted(seeds),
            "reference": {"source": reference.source, "unconfirmed": bool(reference.unconfirmed)}
            if reference
            else None,
            "rows": [_row_record(row) for row in plan.rows],
            "head": head,
        },
    )
    wanted = {recipe_name(row) for row in plan.rows}
    for path in (folder / "recipes").glob("*.yaml"):
        if path.name not in wanted:
            path.unlink()
    for row in plan.rows:
        command = f"ablate fit {folder}/recipes/{recipe_name(row)}"
        plugins = [str(plugin) for plugin in study.plugins]
        recipe = {"plugins": plugins, **row.recipe} if plugins else row.recipe
        text = f"# Study {study.name}, row {row.index}: {row.name}. {row.text}\n# It runs alone: {command}\n"
        write_text(folder / "recipes" / recipe_name(row), text + dump_yaml(recipe))


def recipe_name(row: Row) -> str:
    """Return the file name of a row's recipe."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", row.trick or row.name).strip("-")
    return f"{row.index:02d}-{name}.yaml"


def gather(folder: Path, store: RunStore) -> None:
    """Write `scores.csv` and `costs.csv` of a study from what the store holds now.

    Raises:
        StoreError: the folder holds no study.
    """
    study = read_study_record(folder)
    if study is None:
        raise StoreError(f"{folder} holds no study yet. Run it first: ablate run STUDY.")
    scores: list[dict[str, Any]] = []
    costs: dict[tuple[str, int], dict[str, Any]] = {}
    for row in study["rows"]:
        for seed in study["seeds"]:
            run = store.folder(row["key"], seed)
            result = run.result()
            scores.append(_score_line(row, seed, run, result))
            if result is not None and (row["key"], seed) not in costs:
                costs[row["key"], seed] = {"key": row["key"], "seed": seed, **_cost_columns(result)}
    metrics = sorted({name for line in scores for name in line} - set(_SCORE_COLUMNS))
    write_text(folder / "scores.csv", _csv_text([*_SCORE_COLUMNS, *metrics], scores))
    write_text(folder / "costs.csv", _csv_text(["key", "seed", *COST_COLUMNS], costs.values()))


_SCORE_COLUMNS = ("row", "name", "seed", "status", "reason", "key", "inference")


def _row_record(row: Row) -> dict[str, Any]:
    names = ("index", "name", "text", "trick", "compared_to", "sign", "published", "definition", "key", "inference")
    return {**{name: getattr(row, name) for name in names}, "published_unconfirmed": row.unconfirmed}


def _score_line(row: dict[str, Any], seed: int, run: RunFolder, result: dict[str, Any] | None) -> dict[str, Any]:
    line = {"row": row["index"], "name": row["name"], "seed": seed, "key": row["key"], "inference": row["inference"]}
    metrics = run.score(row["inference"]) if result is not None else None
    if metrics is not None:
        return {**line, "status": "done", "reason": "", **metrics}
    status = run.status()
    if status.get("state") == "failed":
        return {**line, "status": "failed", "reason": status.get("reason", "")}
    return {**line, "status": "missing", "reason": ""}


def _cost_columns(result: dict[str, Any]) -> dict[str, Any]:
    columns = {name: result.get(name) for name in COST_COLUMNS}
    return {**columns, "versions": json.dumps(columns["versions"], sort_keys=True)}


def _csv_text(columns: list[str], lines: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in line.items()} for line in lines)
    return text.getvalue()


def _few(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
