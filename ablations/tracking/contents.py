"""What a training has for its W&B run: scores, costs, learning curves, pictures; and what was sent of it already."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablations.picture_files import read_listing
from ablations.plan import Training
from ablations.store import RunFolder, write_json

COSTS = ("seconds", "images_per_second", "peak_memory_mb", "parameters")


def summary(training: Training) -> dict[str, Any]:
    """Return every score and cost of a training; those of its first row stand without their setting's name, too."""
    assert training.tracking is not None
    folder = RunFolder(training.folder)
    values: dict[str, Any] = {}
    for name in training.scorings:
        score = folder.score(name) or {}
        values |= {f"scores/{name}/{metric}": value for metric, value in score.items()}
        if name == training.tracking.inference:
            values |= score
    result = folder.result() or {}
    return values | {f"costs/{name}": result[name] for name in COSTS if result.get(name) is not None}


def curve_lines(training: Training) -> Iterator[dict[str, float]]:
    """Yield the lines of a training's learning curves as Lightning logs them; none if it has no curves."""
    path = RunFolder(training.folder).metrics
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            values = {name: float(text) for name, text in line.items() if text}
            yield {"trainer/global_step": int(values.pop("step")), **values, "epoch": int(values["epoch"])}


def pictures(training: Training) -> dict[str, list[Any]]:
    """Return the pictures of a training's scores as W&B's images, by name of the panel."""
    import wandb  # only here: whoever does not track should not wait for it

    shown = {}
    for name in training.scorings:
        folder = RunFolder(training.folder).pictures(name)
        images = [wandb.Image(str(folder / entry["file"]), caption=entry["caption"]) for entry in read_listing(folder)]
        if images:
            shown[f"pictures/{name}"] = images
    return shown


def sent(training: Training) -> set[str] | None:
    """Return which scores of a training its run has; None if the training has no run in its project yet."""
    assert training.tracking is not None
    names = _read_sent(training).get(training.tracking.project)
    return None if names is None else set(names)


def note_sent(training: Training, scores: bool) -> None:
    """Remember that a training has a run in its project, and whether that has its scores."""
    assert training.tracking is not None
    names = (sent(training) or set()) | (set(training.scorings) if scores else set())
    write_json(_sent_file(training), {**_read_sent(training), training.tracking.project: sorted(names)})


def _read_sent(training: Training) -> dict[str, list[str]]:
    try:
        projects = json.loads(_sent_file(training).read_bytes())
    except (OSError, ValueError):
        return {}
    return projects if isinstance(projects, dict) else {}


def _sent_file(training: Training) -> Path:
    return training.folder / "wandb" / "sent.json"
