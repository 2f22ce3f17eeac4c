"""Notes every fit of a worker, once `note_fits` is loaded into the server that workers are forked from.

A line a fit is added to a file as it starts and as it ends: what is trained, by which process, and what should not be
so. Checkpoints are written after every epoch.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations import training as trainings
from ablations.plan import Training
from ablations.store import RunFolder

NOTES = "TRICKSTACK_TEST_NOTES"
"""Environment variable with the path of the file."""

_fit = trainings._fit


def noted_fit(training: Training, *arguments: Any) -> Any:
    path = Path(os.environ[NOTES])
    name = f"{training.key}/{training.seed}"
    wrong = ""
    if RunFolder(training.folder).result() is not None:
        wrong = "done-already"
    elif any(pid != os.getpid() and Path(f"/proc/{pid}/exe").exists() for pid in under_way(path, name)):
        wrong = "under-way-elsewhere"
    _note(path, f"start {name} {os.getpid()} {wrong}")
    costs = _fit(replace(training, checkpoint_seconds=0.0), *arguments)
    _note(path, f"end {name} {os.getpid()}")
    return costs


def under_way(path: Path, name: str | None = None) -> list[int]:
    """Return the processes whose fit has started and not ended, of one training or of all."""
    pids: list[int] = []
    for kind, noted, pid, *_ in map(str.split, path.read_text().splitlines() if path.exists() else []):
        if name in (None, noted):
            pids = [*pids, int(pid)] if kind == "start" else [other for other in pids if other != int(pid)]
    return pids


def _note(path: Path, line: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)
