"""What a Slurm task does: one process of a training.

Slurm may take the node away at any moment. A task that is told beforehand (SIGUSR2, SIGUSR1, SIGTERM) says so in the
training's status; one that starts again under the same number and finds that it was running was lost with its node.
"""

import os
import signal
import sys
from dataclasses import dataclass

from submitit.helpers import DelayedSubmission

from ablations.environment import library_versions, version_differences
from ablations.executors.slurm_submissions import note_path, read_note
from ablations.plan import Training
from ablations.processes import end_process
from ablations.store import RunFolder, write_json


@dataclass(frozen=True)
class TrainingTask:
    """Runs a training, or this process's part of it.

    Args:
        versions: of the libraries where the study was submitted.
        losses: how often the training was lost with its node before.
        retries: how often it may be.
    """

    versions: dict[str, str]
    losses: int
    retries: int

    def __call__(self, training: Training) -> None:
        """Run it; called by submitit in each process.

        Raises:
            SystemExit: with 1, if the training failed; its reason is in the status.
        """
        folder = RunFolder(training.folder)
        _print_to(folder)
        if int(os.environ["SLURM_PROCID"]) == 0:
            self._count_losses(folder)
        if differences := version_differences(self.versions, library_versions()):
            _refuse(folder, f"{_node()} has {differences} as where the study was submitted. Install the same there.")
        signal.signal(signal.SIGUSR1, signal.getsignal(signal.SIGUSR2))  # submitit hears SIGUSR2 and requeues
        state = "interrupted" if int(os.environ["SLURM_PROCID"]) == 0 else None  # Slurm starts it again if it goes on
        signal.signal(signal.SIGTERM, lambda number, _: end_process(training, number, state))
        from ablations.training import run_and_record  # torch and Lightning

        run_and_record(training, int(os.environ.get("SLURM_CPUS_PER_TASK", "1")))

    def checkpoint(self, training: Training) -> DelayedSubmission:
        """Say that it will go on; submitit calls this in the first process and then requeues the task."""
        RunFolder(training.folder).write_status("interrupted", "its time on the node was over; it goes on by itself")
        return DelayedSubmission(self, training)

    def _count_losses(self, folder: RunFolder) -> None:
        """Note which task runs the training; give up if its node was lost too often."""
        before, task = read_note(folder), task_number()
        again = before.get("task") == task
        losses = before["losses"] if again else self.losses
        if again and folder.status().get("state") == "running":
            losses += 1
        write_json(note_path(folder), {"task": task, "losses": losses, "node": _node()})
        if losses > self.retries:
            _refuse(folder, f"lost with its node {losses} times, the last on {before.get('node')}")


def task_number() -> str:
    """Return the number of this process's task, such as `17_3`."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


def _refuse(folder: RunFolder, reason: str) -> None:
    folder.write_status("failed", reason)
    raise SystemExit(1)


def _print_to(folder: RunFolder) -> None:
    """Let all that this process prints go to the training's log."""
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.log.open("ab", buffering=0) as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
