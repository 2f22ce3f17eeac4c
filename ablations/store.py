"""The run store: a folder of finished trainings, addressed by what was trained and the seed.

Plain files, atomic renames, one writer a folder, see `ablations.leases`:

    <key>/seed-<n>/   recipe.yaml  status.json  metrics.csv  log.txt  checkpoints/  weights/  predictions/
                      pictures/<inference>/  scores/<inference>.json  result.json

A training is done when its `result.json` can be read, which is written when the fit has ended and its weights are
there, before anything is scored. A score is there when its own file can be read. A file that is there and cannot be
read counts as missing, is named, and is made again.
"""

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.errors import StoreError
from ablations.leases import BusyError, hold

SCORING = 2
"""The version of what scores say. One of another version counts as missing, and is made again from the weights.

2: losses are the negative log-likelihood of the labels; views of normalized images are filled with black.
"""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one training.

    Args:
        path: the folder; it need not exist.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def search(self) -> Path:
        return self.path / "lr_search.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    def weights(self, name: str, member: int | None = None) -> Path:
        """Return the file of stored weights, or of one member of a set of them; members count from 1."""
        return self.path / "weights" / (f"{name}.safetensors" if member is None else f"{name}-{member}.safetensors")

    def weight_files(self, name: str) -> list[Path]:
        """Return the files that hold the weights of that name: one, or one for each member; none if there are none."""
        if self.weights(name).exists():
            return [self.weights(name)]
        members = self.weights(name).parent.glob(f"{name}-*.safetensors")
        return sorted(members, key=lambda path: int(path.stem.rpartition("-")[2]))

    def predictions(self, inference: str) -> Path:
        return self.path / "predictions" / f"{inference}.npz"

    def pictures(self, inference: str) -> Path:
        return self.path / "pictures" / inference

    def result(self) -> dict[str, Any] | None:
        """Return what is known of a finished training, `None` if it is not finished or its file is corrupt."""
        result = _read_json(self.path / "result.json")
        return result if result is not None and "seconds" in result else None

    def score(self, inference: str) -> dict[str, float] | None:
        """Return the metrics of one inference setting by name, `None` if there are none or the file is corrupt."""
        found = self.score_with_costs(inference)
        return found[0] if found is not None else None

    def score_costs(self, inference: str) -> dict[str, float]:
        """Return what one inference setting cost, by name; empty if there is no such score."""
        found = self.score_with_costs(inference)
        return found[1] if found is not None else {}

    def score_with_costs(self, inference: str) -> tuple[dict[str, float], dict[str, float]] | None:
        """Return metrics and costs of one inference setting, `None` if there are none or the file is corrupt."""
        score = self._read_score(inference)
        return None if score is None else (score["metrics"], score.get("costs") or {})

    def scored_weights(self, inference: str) -> tuple[str, dict[str, Any]] | None:
        """Return which weights got a score, and with what `inference` section; `None` if there is no such score."""
        score = self._read_score(inference)
        return (score["weights"], score["section"]) if score is not None and "section" in score else None

    def status(self) -> dict[str, Any]:
        """Return what was last said about the training: its `state` and, for one that failed, the `reason`."""
        return _read_json(self.path / "status.json") or {}

    def missing(self, inferences: Iterable[str]) -> list[str]:
        """Return the inference settings that are yet to be scored; all of them if the training is not done."""
        names = list(inferences)
        return [name for name in names if self.score(name) is None] if self.result() is not None else names

    def corrupt(self, inferences: Iterable[str]) -> list[Path]:
        """Return the files that are there and cannot be read."""
        scores = [(path, _read_json(path)) for path in map(self._score_path, inferences)]
        found = [path for path, score in scores if score is None or not isinstance(score.get("metrics"), dict)]
        if self.result() is None:
            found.insert(0, self.path / "result.json")
        return [path for path in found if path.exists()]

    def write_result(self, result: dict[str, Any]) -> None:
        write_json(self.path / "result.json", result)

    def write_score(
        self,
        inference: str,
        metrics: dict[str, float],
        costs: dict[str, float],
        weights: str = "last",
        section: dict[str, Any] | None = None,
    ) -> None:
        """Write what one inference setting got, and with which weights and section of the recipe it got that."""
        record = {"scoring": SCORING, "metrics": metrics, "costs": costs, "weights": weights, "section": section or {}}
        write_json(self._score_path(inference), record)

    def write_status(self, state: str, reason: str = "") -> None:
        write_json(self.path / "status.json", {"state": state, "reason": reason, "pid": os.getpid()})

    @contextlib.contextmanager
    def lock(self, wait: bool = True) -> Iterator[None]:
        """Be the folder's only writer, among the processes of all machines that see it.

        The lease tells those of other machines. The lock is for this one: should a process that was halted for long
        lose the lease, the next one still waits for its end.

        Args:
            wait: for another process that is.

        Raises:
            BusyError: another process is, and `wait` is off.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with hold(self.path, wait), (self.path / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise BusyError(f"another process is at work in {self.path}") from None
            yield

    def _score_path(self, inference: str) -> Path:
        return self.path.joinpath("scores", f"{inference}.json")

    def _read_score(self, inference: str) -> dict[str, Any] | None:
        """Return what is stored of one inference setting; `None` if there is nothing, or nothing of today's version."""
        score = _read_json(self._score_path(inference))
        if score is None or score.get("scoring") != SCORING or not isinstance(score.get("metrics"), dict):
            return None
        return score


@dataclass(frozen=True)
class RunStore:
    """The folder that holds the folders of all trainings.

    Args:
        path: for example `results/runs`.
    """

    path: Path

    def folder(self, key: str, seed: int) -> RunFolder:
        """Return the folder of one training."""
        return RunFolder(self.path.joinpath(key, f"seed-{seed}"))


def make_writable(folder: Path) -> None:
    """Make a folder and see that files can be written there.

    Raises:
        StoreError: they cannot; the message says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable-"):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"{folder} cannot be written: {reason}. Choose another folder with --results.") from None


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, data: dict[str, Any] | list[Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(data, indent=1) + "\n")


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
