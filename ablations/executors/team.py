"""The processes of one training on this machine: one a device, started together, and ended together if one fails."""

import signal
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path

from ablations import workers
from ablations.leases import BUSY
from ablations.plan import Training
from ablations.processes import end_process
from ablations.store import RunFolder


class Team:
    """Starts the processes of a training.

    Args:
        training: what they do.
        threads: processor threads of the training, divided among them.
        gpus: the graphics processors that it may see, by number; none on a machine without.
    """

    def __init__(self, training: Training, threads: int, gpus: list[int]) -> None:
        self.training = training
        self._failed: BaseProcess | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="trickstack-")
        count = training.processes.count
        seen = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))} if gpus else {}
        self._processes = [
            workers.start(
                _run,
                training,
                max(1, threads // count),
                log=RunFolder(training.folder).log,
                environment=seen | (self._place(rank, count) if count > 1 else {}),
            )
            for rank in range(count)
        ]
        self._open = list(self._processes)

    def _place(self, rank: int, count: int) -> dict[str, str]:
        """Return the environment variables by which a process knows its place among the others."""
        meeting = str(Path(self._folder.name) / "meeting")
        here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        return {"TRICKSTACK_MEETING": meeting, **{name: str(value) for name, value in here.items()}}

    def sentinels(self) -> list[int]:
        """Return what is ready when a process ends, of those that `has_ended` has not seen end."""
        return [process.sentinel for process in self._open]

    def has_ended(self) -> bool:
        """Return whether all processes have ended; if one has failed, the others are ended too."""
        failed = [process for process in self._processes if process.exitcode]
        if failed and self._failed is None:
            self._failed = min(failed, key=_exit_code)  # one that was killed comes before those that it took along
            for process in self._processes:
                process.kill()
        for process in self._open:
            if process.exitcode is not None:
                workers.kill(process)  # what it has started and left
        self._open = [process for process in self._open if process.exitcode is None]
        if not self._open:
            self._folder.cleanup()
        return not self._open

    def kill(self) -> None:
        """End what still runs."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            workers.kill(process)
        self._folder.cleanup()

    def was_busy(self) -> bool:
        """Return whether the training was left to another study, which is at it."""
        return (self._failed or self._processes[0]).exitcode == BUSY

    def failure(self) -> str:
        """Return why the training failed, and record it where the training could not; empty if it did not fail."""
        folder = RunFolder(self.training.folder)
        if self.training.is_done():
            return ""
        code = (self._failed or self._processes[0]).exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            reason = f"killed by {name}" + (" (often the sign of too little memory)" if name == "SIGKILL" else "")
        elif code and folder.status().get("state") == "failed":
            return str(folder.status().get("reason") or "unknown; see log.txt")
        else:
            reason = f"the process ended (exit code {code}) without a result; see {folder.log}"
        try:
            folder.write_status("failed", reason)
        except OSError as error:  # a full disk: the study still says what happened
            reason += f"; its status could not be written: {error.strerror}"
        return reason


def _exit_code(process: BaseProcess) -> int:
    return process.exitcode or 0


def _run(training: Training, threads: int) -> None:
    signal.signal(signal.SIGTERM, lambda number, _: end_process(training, number, "failed"))
    from ablations.training import run_and_record  # in the worker alone: this process stays without torch

    run_and_record(training, threads, wait=False)
