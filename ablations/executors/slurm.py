"""Runs trainings as tasks of Slurm job arrays, each with its own nodes and devices.

The study only submits and looks on. When it ends, its tasks go on; the next run of the study finds them in the queue.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from ablations.executors.events import Event, Finished, Started
from ablations.executors.queue import Queue
from ablations.executors.slurm_cluster import QueueEntry, SlurmOptions, check_cluster, read_queue
from ablations.executors.slurm_submissions import Submissions, identity_of, read_note
from ablations.plan import Training
from ablations.store import RunFolder, RunStore

PATIENCE_SECONDS = 30
"""How long the files of a task that Slurm calls completed may take to be seen from here."""


@dataclass
class _Watched:
    """A training that is queued or runs."""

    training: Training
    task: str
    started: bool = False
    ended: float | None = None


def run_slurm(trainings: list[Training], study: str, options: SlurmOptions) -> Iterator[Event]:
    """Submit trainings to Slurm, unless they are there already, and say when each starts and ends.

    Args:
        trainings: in the order in which they are submitted; those that need others wait for them.
        study: the name of the study.
        options: what to ask Slurm for.

    Raises:
        UserError: Slurm cannot run them.
    """
    if trainings:
        check_cluster(options, trainings)
        yield from _Watch(trainings, study, options).events()


class _Watch:
    """Submits the trainings of a study as they become ready, and follows them through the queue."""

    def __init__(self, trainings: list[Training], study: str, options: SlurmOptions) -> None:
        self.queue = Queue(trainings)
        self.study = study
        self.options = options
        self.submissions = Submissions(RunStore(trainings[0].store))
        self.watched: list[_Watched] = []
        self.losses: dict[tuple[str, int, str], int] = {}

    def events(self) -> Iterator[Event]:
        while True:
            ready: list[Training] = []
            while training := self.queue.take():
                if (reason := self.queue.blocked(training)) or training.is_done():
                    yield Started(training)
                    yield self._finish(training, reason)
                else:
                    ready.append(training)
            if ready:
                self._submit(ready)
            entries = read_queue() if self.watched else None
            if entries is not None:  # else Slurm has an outage, and its tasks go on
                yield from self._look(entries)
            if not self.watched and not self.queue:
                return
            # What is left may also be under way in another process, which is waited for.
            time.sleep(self.options.poll_seconds)

    def _submit(self, trainings: list[Training]) -> None:
        """Submit what is not queued or running already, by whichever study."""
        with self.submissions.lock():
            queued = self.submissions.queued(_wait_for_queue(self.options.poll_seconds))
            groups: dict[tuple[int, int], list[Training]] = {}
            for training in trainings:
                if entry := queued.get(identity_of(training)):
                    self.watched.append(_Watched(training, entry.task))
                else:
                    processes = training.processes
                    groups.setdefault((processes.nodes, processes.devices), []).append(training)
            for group in groups.values():
                losses = [self.losses.get(identity_of(training), 0) for training in group]
                numbers = self.submissions.submit(self.study, group, losses, self.options)
                self.watched += [_Watched(*pair) for pair in zip(group, numbers, strict=True)]

    def _look(self, entries: dict[str, QueueEntry]) -> Iterator[Event]:
        lost = []
        for watched in list(self.watched):
            entry, training = entries.get(watched.task), watched.training
            if entry is not None and entry.is_active:
                if entry.state == "RUNNING" and not watched.started:
                    watched.started = True
                    yield Started(training)
                continue
            if not training.is_done() and _may_still_appear(watched, entry):
                continue
            self.watched.remove(watched)
            if not watched.started:
                yield Started(training)
            reason = "" if training.is_done() else _reason(watched, entry)
            if reason is None:
                reason = self._count_loss(training, entry)
                if not reason:
                    lost.append(training)
                    continue
            yield self._finish(training, reason)
        if lost:
            self._submit(lost)

    def _count_loss(self, training: Training, entry: QueueEntry | None) -> str:
        """Count that a training went away with its node; return why it is given up, if it is."""
        identity = identity_of(training)
        self.losses[identity] = self.losses.get(identity, 0) + 1
        if self.losses[identity] <= self.options.retries:
            return ""
        said = f"{entry.state} on {entry.nodes}" if entry else "it is in the queue no more"
        return f"lost {self.losses[identity]} times without a word of its own; Slurm says: {said}"

    def _finish(self, training: Training, reason: str) -> Finished:
        folder = RunFolder(training.folder)
        if reason and folder.status().get("state") != "failed":
            folder.write_status("failed", reason)
        self.queue.finish(training, reason)
        return Finished(training, reason)


def _wait_for_queue(poll_seconds: float) -> dict[str, QueueEntry]:
    """Return the queue, whenever Slurm answers: without it, nobody knows what is submitted."""
    while (entries := read_queue()) is None:
        time.sleep(poll_seconds)
    return entries


def _may_still_appear(watched: _Watched, entry: QueueEntry | None) -> bool:
    """Return whether what a task wrote may not be seen yet on a file system over the network."""
    if entry is None or entry.state != "COMPLETED":
        return False
    watched.ended = watched.ended or time.monotonic()
    return time.monotonic() - watched.ended < PATIENCE_SECONDS


def _reason(watched: _Watched, entry: QueueEntry | None) -> str | None:
    """Return why a training ended without a result; `None` if it was lost with its node."""
    folder = RunFolder(watched.training.folder)
    began, status = read_note(folder).get("task") == watched.task, folder.status()
    if entry is not None and entry.state == "CANCELLED":
        return f"the task {watched.task} was cancelled"
    if began and status.get("state") == "failed":
        return str(status.get("reason") or "unknown; see log.txt")
    if entry is not None and entry.comment not in ("", "(null)"):
        return f"{entry.comment}. The store and Python must lie where all nodes see them."
    if entry is not None and entry.state == "OUT_OF_MEMORY":
        return "out of memory: Slurm ended it. Give it more with --slurm.mem"
    if entry is not None and entry.state == "FAILED" and not began:
        return f"the task {watched.task} failed on {entry.nodes} before the training began ({entry.reason})"
    return None
