"""The results folder of a study: what was planned, and every score in it, gathered from the run store.

    results/<study>/   study.json  recipes/<row>.yaml  scores.csv  costs.csv  inference_costs.csv  table.md  table.csv
                       pictures/

`study.json` says what the rows are and where their trainings lie, so everything else can be made again from the store.
`scores.csv` holds nothing that differs between two runs of the same study; what a training costs is in `costs.csv`, and
what its test costs, which depends on the row, in `inference_costs.csv`.
"""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from ablations.errors import StoreError
from ablations.metric_kinds import metric_kind, why_no_score
from ablations.orders import trick_orders
from ablations.picture_files import gather_pictures
from ablations.plan import Plan, Row, group_leaders, is_search
from ablations.store import RunFolder, RunStore, write_json, write_text
from ablations.yaml_file import dump_yaml

COST_COLUMNS = (
    "seconds", "images_per_second", "peak_memory_mb", "parameters",
    "device", "accelerator", "threads", "code", "versions",
)  # fmt: skip
TEST_COLUMNS = ("seconds", "flops_per_image")


def study_folder(results: Path, plan: Plan, own_mode: str) -> Path:
    """Return the folder of a study's table; a mode other than the study's own has a folder inside it."""
    folder = results / plan.study.name
    return folder if plan.study.mode == own_mode else folder / plan.study.mode


def check_unchanged(folder: Path, plan: Plan, store: RunStore) -> None:
    """See that the plan keeps what a folder holds: every row of its table, and every score that was finished.

    More rows at the end and other seeds change nothing: no row that stands in the table would be another.

    Raises:
        StoreError: it does not; the message names the rows and says what to do.
    """
    stored = read_study_record(folder)
    if stored is None:
        return
    new = {(row.name, row.definition) for row in plan.rows}
    changed = [row["name"] for row in stored["rows"] if (row["name"], row.get("definition")) not in new]
    if changed:
        raise StoreError(
            f"{folder} holds the table of another version of this study: {_few(changed)} would change or go. Add "
            f"--replace to put the new table in its place (the old one is kept beside it, and no finished training is "
            f"lost), choose another --results, or give the study another name."
        )
    if lost := lost_scores(folder, plan, store):
        rows = list(dict.fromkeys(line["name"] for line in lost))
        raise StoreError(
            f"{folder} holds {len(lost)} finished score(s) that do not belong to what {_few(rows)} would train now: "
            f"the data, your own code, or the version of a library has changed since. Add --replace to train them anew "
            f"(the old table is kept beside the new one), or choose another --results."
        )


def lost_scores(folder: Path, plan: Plan, store: RunStore) -> list[dict[str, Any]]:
    """Return the finished lines of a folder's `scores.csv` for which the plan has no place."""
    seeds = united_seeds(folder, plan, store)
    kept = {
        (row.key, row.inference, str(seed))
        for row in plan.rows
        if not is_search(row.recipe)
        for seed in group_leaders(seeds, row.group)
    }
    return [line for identity, line in _Gathered(folder, plan.study.metric).scores.items() if identity not in kept]


def united_seeds(folder: Path, plan: Plan, store: RunStore) -> list[int]:
    """Return the seeds of the plan, and those for which the folder or the store holds a finished score of a row."""
    earlier = read_study_record(folder)
    seeds, keys = set(plan.study.seeds), {row.key for row in plan.rows}
    finished = {int(seed) for key, _, seed in _Gathered(folder, plan.study.metric).scores if key in keys}
    for seed in earlier["seeds"] if earlier else []:
        if seed in finished or any(store.folder(key, seed).result() for key in keys):
            seeds.add(seed)
    return sorted(seeds)


def set_aside(folder: Path) -> Path:
    """Copy what a results folder says into a folder inside it, `replaced/<n>`, before another table takes its place."""
    numbers = [int(path.name) for path in (folder / "replaced").glob("*") if path.name.isdigit()]
    target = folder / "replaced" / str(max(numbers, default=0) + 1)
    target.mkdir(parents=True)
    for name in ("study.json", "scores.csv", "costs.csv", "inference_costs.csv", "table.md", "table.csv"):
        if (folder / name).is_file():
            shutil.copy2(folder / name, target / name)
    for name in ("recipes", "lr_search"):
        if (folder / name).is_dir():
            shutil.copytree(folder / name, target / name)
    return target


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


def write_study(
    folder: Path, plan: Plan, store: RunStore, head: dict[str, Any], race: dict[str, Any] | None = None
) -> None:
    """Write what a study is: its rows, each as a recipe that runs alone, and where its trainings lie.

    Seeds that an earlier run of the same study finished stay in the table, also where their store is gone.

    Args:
        folder: the study's results folder.
        plan: its plan.
        store: where its trainings lie.
        head: how the table was made.
        race: the rule by which rows get their seeds; `None` if all get the same.
    """
    seeds = united_seeds(folder, plan, store)
    study, reference = plan.study, plan.study.reference
    write_json(
        folder / "study.json",
        {
            "name": study.name,
            "task": study.task,
            "mode": study.mode,
            "metric": study.metric,
            "scale": study.scale,
            "unit": "%" if study.scale == 100 and metric_kind(study.metric).is_share else "",
            "higher_is_better": study.higher_is_better,
            "vary": list(study.vary),
            "race": race,
            "seeds": seeds,
            "reference": {"source": reference.source, "unconfirmed": bool(reference.unconfirmed)}
            if reference
            else None,
            "rows": [_row_record(row, plan) for row in plan.rows],
            **_orders(plan),
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
        if row.search:
            _copy_search(row, store.folder(row.search, study.seeds[0]), folder / "lr_search")


def _copy_search(row: Row, searched: RunFolder, folder: Path) -> None:
    """Put what the search of a row found, and its picture, beside the table."""
    folder.mkdir(exist_ok=True)
    for path in (searched.search, searched.search.with_suffix(".png")):
        shutil.copyfile(path, folder / Path(recipe_name(row)).with_suffix(path.suffix))


def recipe_name(row: Row) -> str:
    """Return the file name of a row's recipe."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", row.trick or row.name).strip("-")[:80]
    return f"{row.index:02d}-{name}.yaml"


def gather(folder: Path, store: RunStore) -> list[dict[str, Any]]:
    """Write `scores.csv`, the costs and the pictures of a study from what the store holds now.

    A score that was gathered before stays where the store has none: its key says that it is of the same training.

    Returns:
        The lines of `scores.csv`.

    Raises:
        StoreError: the folder holds no study.
    """
    study = read_study_record(folder)
    if study is None:
        raise StoreError(f"{folder} holds no study yet. Run it first: ablate run STUDY.")
    earlier = _Gathered(folder, study["metric"])
    scores: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    results: dict[tuple[str, int], dict[str, Any] | None] = {}
    for row in study["rows"]:
        for seed in group_leaders(study["seeds"], row.get("group", 1)):
            for key, offset in [(row["key"], 0), *row.get("trainings", ())]:
                if (key, seed + offset) not in results:
                    results[key, seed + offset] = store.folder(key, seed + offset).result()
            run = store.folder(row["key"], seed)
            found = run.score_with_costs(row["inference"]) if results[row["key"], seed] is not None else None
            line = _score_line(row, seed, run, found[0] if found else None, study["metric"])
            scores.append(earlier.completed(line, is_known=bool(run.status())))
            if scores[-1]["status"] == "done":
                costs = found[1] if found else earlier.tests.get(_identity(scores[-1]), {})
                tests.append({"row": row["index"], "seed": seed, **{name: costs.get(name) for name in TEST_COLUMNS}})
    metrics = sorted({name for line in scores for name in line} - set(_SCORE_COLUMNS))
    write_text(folder / "scores.csv", _csv_text([*_SCORE_COLUMNS, *metrics], scores))
    trainings = [
        {"key": key, "seed": seed, **_cost_columns(result)} if result else earlier.costs.get((key, str(seed)))
        for (key, seed), result in results.items()
    ]
    write_text(folder / "costs.csv", _csv_text(["key", "seed", *COST_COLUMNS], filter(None, trainings)))
    write_text(folder / "inference_costs.csv", _csv_text(["row", "seed", *TEST_COLUMNS], tests))
    gather_pictures(folder, study["rows"], min(study["seeds"]), store)
    return scores


_SCORE_COLUMNS = ("row", "name", "seed", "status", "reason", "key", "inference")


class _Gathered:
    """What a results folder holds from before, by what was trained and scored; read when it is first asked for.

    Args:
        folder: the study's results folder.
        metric: the headline metric; a line without it, or with one that is no number, is no score.
    """

    def __init__(self, folder: Path, metric: str) -> None:
        self._folder = folder
        self._metric = metric

    @cached_property
    def scores(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """The finished lines, with all that they hold."""
        done = {key: line for key, line in self.lines.items() if line.get("status") == "done"}
        return {key: line for key, line in done.items() if not why_no_score(_metrics(line), self._metric)}

    @cached_property
    def lines(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        return {_identity(line): line for line in _read_csv(self._folder / "scores.csv")}

    @cached_property
    def costs(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {(line["key"], line["seed"]): line for line in _read_csv(self._folder / "costs.csv")}

    @cached_property
    def tests(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        tests = {(line["row"], line["seed"]): line for line in _read_csv(self._folder / "inference_costs.csv")}
        return {key: tests.get((line["row"], line["seed"]), {}) for key, line in self.scores.items()}

    def completed(self, line: dict[str, Any], is_known: bool) -> dict[str, Any]:
        """Return a line of `scores.csv`, with its earlier score if the store has none for it.

        Args:
            line: what the store says.
            is_known: whether the store knows of the training; if not, an earlier failure stays one, with its reason.
        """
        if line["status"] == "done":
            return line
        identity = _identity(line)
        if score := self.scores.get(identity):
            return {**score, **line, "status": "done", "reason": ""}
        before = self.lines.get(identity, {})
        if before.get("status") == "failed" and not is_known:
            return {**line, "status": "failed", "reason": before.get("reason", "")}
        return line


def _metrics(line: dict[str, Any]) -> dict[str, float]:
    """Return what a line of `scores.csv` holds beside the columns that all have; a score of another metric is empty."""
    return {name: float(value) for name, value in line.items() if name not in _SCORE_COLUMNS and value}


def _identity(line: dict[str, Any]) -> tuple[str, str, str]:
    return line["key"], line["inference"], str(line["seed"])


def _read_csv(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a CSV file of ours; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _orders(plan: Plan) -> dict[str, Any]:
    """The orders in which the tricks join, where the mode has some."""
    if plan.study.mode != "shapley":
        return {}
    names = [use.name for use in plan.study.tricks]
    return {"orders": [list(order) for order in trick_orders(names, plan.study.shapley_orders)]}


def _row_record(row: Row, plan: Plan) -> dict[str, Any]:
    names = (
        "index", "name", "text", "trick", "compared_to", "sign", "published", "definition", "key", "inference", "group",
    )  # fmt: skip
    record = {**{name: getattr(row, name) for name in names}, "published_unconfirmed": row.unconfirmed}
    if row.tricks:
        record["tricks"] = list(row.tricks)
    if not is_search(row.recipe):
        record["trainings"] = [list(pair) for pair in plan.trainings_behind(row)]
        record["networks"] = [list(pair) for pair in plan.networks_behind(row)]
    return record


def _score_line(
    row: dict[str, Any], seed: int, run: RunFolder, metrics: dict[str, float] | None, metric: str
) -> dict[str, Any]:
    """Return the line of a row and seed; a score whose headline `metric` is no number counts as failed."""
    line = {"row": row["index"], "name": row["name"], "seed": seed, "key": row["key"], "inference": row["inference"]}
    if metrics is not None:
        reason = why_no_score(metrics, metric)
        return {**line, "status": "failed" if reason else "done", "reason": reason, **metrics}
    status = run.status()
    if status.get("state") == "failed":
        return {**line, "status": "failed", "reason": status.get("reason", "")}
    return {**line, "status": "missing", "reason": ""}


def _cost_columns(result: dict[str, Any]) -> dict[str, Any]:
    columns = {name: result.get(name) for name in COST_COLUMNS}
    return {**columns, "versions": json.dumps(columns["versions"], sort_keys=True)}


def _csv_text(columns: list[str], lines: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")  # it writes None as nothing
    writer.writerow(columns)
    writer.writerows([line.get(name) for name in columns] for line in lines)
    return text.getvalue()


def _few(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
