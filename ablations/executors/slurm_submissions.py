"""What was submitted to Slurm for the trainings of a store, so that nothing is submitted twice.

    results/runs/.slurm/   lock   <submission>/submission.json   <submission>/ submitit's files

A submission is written down before it is made, and gets its number afterwards. If the study ends in between, it is
found in the queue by its name.
"""

import contextlib
import fcntl
import json
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablations.environment import library_versions
from ablations.errors import UserError
from ablations.executors.slurm_cluster import QueueEntry, SlurmOptions, largest_array
from ablations.own_packages import OURS, SAFE_PATH
from ablations.plan import Training
from ablations.store import RunFolder, RunStore, write_json

SHORTEST_WARNING_SECONDS, LONGEST_WARNING_SECONDS = 15, 120
"""How long before the time limit a task is told."""


@dataclass(frozen=True)
class SubmittedTask:
    """A training as it was submitted.

    Args:
        task: its number in Slurm; `None` if nobody wrote it down.
        job_name: the name of its job array.
        index: its place there.
        key: of the training.
        seed: of the training.
        ensemble: the score that is made, if it is an ensemble's.
        study: the name of the study that submitted it.
        log: what Slurm itself wrote.
    """

    task: str | None
    job_name: str
    index: int
    key: str
    seed: int
    ensemble: str
    study: str
    log: Path

    @property
    def identity(self) -> tuple[str, int, str]:
        return self.key, self.seed, self.ensemble


def identity_of(training: Training) -> tuple[str, int, str]:
    """Return what tells trainings apart: key, seed and, for an ensemble, its score."""
    return training.key, training.seed, next(iter(training.scorings)) if training.is_ensemble else ""


def read_note(folder: RunFolder) -> dict[str, Any]:
    """Return which Slurm task ran a training last, on which node, and how often it was lost; empty if none did."""
    try:
        note = json.loads(note_path(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def note_path(folder: RunFolder) -> Path:
    """Return the file in which a task writes that it runs a training."""
    return folder.path / "slurm.json"


class Submissions:
    """The submissions of a store.

    Args:
        store: the store.
    """

    def __init__(self, store: RunStore) -> None:
        self.folder = store.path / ".slurm"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one to look and submit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def tasks(self) -> list[SubmittedTask]:
        """Return all tasks that were ever submitted, the latest last."""
        return [task for path in sorted(self.folder.glob("*/submission.json")) for task in _read(path)]

    def queued(self, queue: dict[str, QueueEntry]) -> dict[tuple[str, int, str], QueueEntry]:
        """Return the entries of trainings that are queued or running, by identity."""
        by_place = {(entry.job_name, entry.task.partition("_")[2]): entry for entry in queue.values()}
        active = {}
        for task in self.tasks():
            entry = queue.get(task.task) if task.task else None
            if entry is None or entry.job_name != task.job_name:  # numbers start anew when a cluster is set up anew
                entry = by_place.get((task.job_name, str(task.index))) or by_place.get((task.job_name, ""))
            if entry is not None and entry.is_active:
                active[task.identity] = entry
        return active

    def submit(self, study: str, trainings: list[Training], losses: list[int], options: SlurmOptions) -> list[str]:
        """Submit trainings that take equally many processes, in as few job arrays as Slurm allows.

        Args:
            study: the name of the study.
            trainings: what to run.
            losses: how often each was lost with its node.
            options: what to ask for.

        Returns:
            The number of each task.

        Raises:
            UserError: Slurm refuses them.
        """
        most, numbers = largest_array(), []
        for start in range(0, len(trainings), most):
            part = slice(start, start + most)
            numbers += self._submit_array(study, trainings[part], losses[part], options)
        return numbers

    def _submit_array(
        self, study: str, trainings: list[Training], losses: list[int], options: SlurmOptions
    ) -> list[str]:
        from submitit import SlurmExecutor  # the optional dependency
        from submitit.core.utils import FailedJobError

        from ablations.executors.slurm_task import TrainingTask

        name = f"trickstack-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        folder = (self.folder / name).resolve()
        tasks = [dict(zip(("key", "seed", "ensemble"), identity_of(each), strict=True)) for each in trainings]
        record: dict[str, Any] = {"study": study, "job_name": name, "tasks": tasks, "numbers": None}
        write_json(folder / "submission.json", record)
        executor = SlurmExecutor(folder, max_num_timeout=1_000_000)  # a training takes as long as it takes
        executor.update_parameters(**_parameters(name, folder, trainings[0], options))
        versions = library_versions()
        functions = [TrainingTask(versions, lost, options.retries) for lost in losses]
        absolute = [_with_absolute_paths(training) for training in trainings]
        try:
            with executor.batch():
                jobs = [executor.submit(*pair) for pair in zip(functions, absolute, strict=True)]
        except FailedJobError as error:
            said = [line for line in str(error).splitlines() if "error:" in line] or str(error).splitlines()
            raise UserError(f"Slurm refuses the trainings: {said[-1].removeprefix('sbatch: error: ')}") from None
        numbers = [str(job.job_id) for job in jobs]
        write_json(folder / "submission.json", {**record, "numbers": numbers})
        return numbers


def _parameters(name: str, folder: Path, training: Training, options: SlurmOptions) -> dict[str, Any]:
    """Return submitit's parameters of a job array."""
    wanted = training.processes
    optional = {name: getattr(options, name) for name in ("partition", "account", "qos", "constraint", "gpus_per_node")}
    optional["mem"] = f"{round(options.memory_gib * 1024)}M" if options.memory_gib else ""
    warning = min(LONGEST_WARNING_SECONDS, max(SHORTEST_WARNING_SECONDS, options.minutes * 60 // 10))
    return {
        "job_name": name,
        "nodes": wanted.nodes,
        "ntasks_per_node": wanted.devices,
        "cpus_per_task": options.cpus_per_task,
        "time": options.minutes,
        "signal_delay_s": warning,
        "array_parallelism": options.max_running,
        "stderr_to_stdout": True,
        "srun_args": ["--kill-on-bad-exit=1"],
        "setup": [*_sight_checks(folder), f"export {SAFE_PATH}={OURS}"],
        "additional_parameters": {"requeue": True, "output": "/dev/null"},
        **{name: value for name, value in optional.items() if value},
    }


def _sight_checks(folder: Path) -> list[str]:
    """Return shell lines by which a node says that it does not see the store or Python, in the comment of the task."""
    lines = []
    for path in (folder / "submission.json", Path(sys.executable)):
        say = f'Comment="$SLURMD_NODENAME cannot see {path}"'
        lines.append(f'[ -r "{path}" ] || {{ scontrol update JobId="$SLURM_JOB_ID" {say}; exit 1; }}')
    return lines


def _with_absolute_paths(training: Training) -> Training:
    plugins = tuple(path.resolve() for path in training.plugins)
    return replace(training, folder=training.folder.resolve(), plugins=plugins)


def _read(path: Path) -> list[SubmittedTask]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    numbers = record["numbers"] or [None] * len(record["tasks"])
    name, study = record["job_name"], record["study"]
    return [
        SubmittedTask(number, name, index, study=study, log=path.parent / f"{number}_0_log.out", **task)
        for index, (number, task) in enumerate(zip(numbers, record["tasks"], strict=True))
    ]
