"""A results folder with its run store, written by hand, as large and as broken as a test wants it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ablations.store import SCORING, RunFolder, RunStore

METRIC = "test/accuracy"
CLASSES = 4
_SPREAD = (0.0, 0.004, -0.003, 0.002, -0.001)


def plan_row(index: int, name: str, **changes: Any) -> dict[str, Any]:
    """Return a row of `study.json` in a stack."""
    row = {
        "index": index,
        "name": name,
        "text": f"What `{name}` does.",
        "trick": name.removeprefix("+ ") if index else None,
    }
    row |= {"compared_to": index - 1 if index else None, "sign": 1, "published": None, "published_unconfirmed": False}
    return {**row, "definition": f"d{index}", "key": f"{index:016x}", "inference": "last", **changes}


def plan_rows(count: int) -> list[dict[str, Any]]:
    """Return the rows of a stack: a base and tricks, every third with a published gain."""
    return [
        plan_row(index, f"+ trick_{index}" if index else "base", published=0.5 if index % 3 == 1 else None)
        for index in range(count)
    ]


def mean_score(index: int) -> float:
    """Return the score around which the seeds of a row lie: gains, a small loss, and so on."""
    return 0.8 + 0.02 * (index % 3) + 0.001 * index


def write_results(
    folder: Path,
    rows: list[dict[str, Any]] | None = None,
    seeds: int = 5,
    scores: dict[tuple[int, int], Any] | None = None,
    costs: bool = True,
    **changes: Any,
) -> Path:
    """Write a results folder.

    Args:
        folder: where.
        rows: of `study.json`; by default three.
        seeds: how many.
        scores: by row and seed, instead of the usual number: another, the reason of a failure, or None for not run.
        costs: whether there is a `costs.csv`.
        changes: of `study.json`.
    """
    rows = plan_rows(3) if rows is None else rows
    folder.mkdir(parents=True, exist_ok=True)
    head = {"command": "ablate run small", "commit": "abc123", "versions": {"trickstack": "0.1.0", "torch": "2.11.0"}}
    head |= {"hardware": "one processor, 2 cores", "date": "2026-01-31"}
    study = {"name": "small", "task": "classification", "mode": "stack", "metric": METRIC, "scale": 100.0, "unit": "%"}
    study |= {"higher_is_better": True, "seeds": list(range(seeds)), "rows": rows, "head": head}
    study |= {"reference": {"source": "arXiv:1812.01187, Table 6", "unconfirmed": False}, **changes}
    (folder / "study.json").write_text(json.dumps(study))
    _write_csv(
        folder / "scores.csv",
        [_score_line(row, seed, scores or {}, study["metric"]) for row in rows for seed in range(seeds)],
    )
    keys = {row["key"]: 0.5 + row["index"] for row in reversed(rows)}
    lines = [{"key": key, "seed": seed, "seconds": cost, "parameters": 1000, "device": "cpu", "threads": 1}
             for key, cost in keys.items() for seed in range(seeds)]  # fmt: skip
    if costs:
        _write_csv(folder / "costs.csv", lines)
    for row in rows:
        _write_recipe(folder, row)
    return folder


def write_store(folder: Path, rows: list[dict[str, Any]], seeds: int, epochs: int = 12, images: int = 40) -> RunStore:
    """Write the finished trainings of such a folder: learning curves, predictions, costs of scoring."""
    store = RunStore(folder)
    for row in rows:
        for seed in range(seeds):
            run = store.folder(row["key"], seed)
            if not run.metrics.exists():
                _write_run(run, row["index"], seed, epochs)
            _write_scores(run, row, seed, images)
    return store


def _score_line(row: dict[str, Any], seed: int, scores: dict[tuple[int, int], Any], metric: str) -> dict[str, Any]:
    usual = mean_score(row["index"]) + _SPREAD[seed % 5] * (1 + seed // 5)
    score = scores.get((row["index"], seed), usual)
    status, reason, value = "done", "", repr(score)
    if score is None:
        status, value = "missing", ""
    elif isinstance(score, str):
        status, reason, value = "failed", score, ""
    line = {"row": row["index"], "name": row["name"], "seed": seed, "status": status, "reason": reason}
    return {**line, "key": row["key"], "inference": row["inference"], metric: value}


def _write_csv(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _write_recipe(folder: Path, row: dict[str, Any]) -> None:
    recipe = {"seed_everything": 0, "model": {"loss": {"smoothing": 0.1 * row["index"], "name": row["name"]}}}
    path = folder / "recipes" / f"{row['index']:02d}-row.yaml"
    path.parent.mkdir(exist_ok=True)
    text = f"# Row {row['index']}\n# It runs alone: ablate fit recipes/{path.name}\n"
    path.write_text(text + yaml.safe_dump(recipe, sort_keys=False))


def _write_run(run: RunFolder, index: int, seed: int, epochs: int) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    lines = ["epoch,step,lr,train/loss,val/accuracy"]
    for epoch in range(epochs):
        accuracy = f"{1 - 1 / (epoch + 2) + 0.001 * seed}" if epoch % 2 else ""
        lines.append(f"{epoch},{4 * epoch},0.1,{(2 + 0.1 * seed) / (1 + epoch + index)},{accuracy}")
    run.metrics.write_text("\n".join(lines) + "\n")


def _write_scores(run: RunFolder, row: dict[str, Any], seed: int, images: int) -> None:
    generator = np.random.default_rng((row["index"], seed))
    targets = np.arange(images) % CLASSES
    probabilities = generator.random((images, CLASSES), dtype=np.float32)
    probabilities[np.arange(images), targets] += 0.3 + 0.05 * (row["index"] % 5)
    path = run.predictions(row["inference"])
    path.parent.mkdir(exist_ok=True)
    np.savez(path, probabilities=probabilities, targets=targets)
    scores = run.path / "scores" / f"{row['inference']}.json"
    scores.parent.mkdir(exist_ok=True)
    costs = {"flops_per_image": 1000 * (1 + row["index"])}
    scores.write_text(json.dumps({"scoring": SCORING, "metrics": {}, "costs": costs}))
