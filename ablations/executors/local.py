"""Runs trainings on this machine, each in a process of its own, several at a time."""

import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from ablations import workers
from ablations.environment import usable_cores
from ablations.executors.events import Event, Finished, Started
from ablations.executors.queue import Queue
from ablations.plan import Training
from ablations.store import RunFolder

GIB_A_JOB = 2


def default_jobs(gpus: int) -> int:
    """Return how many trainings run at a time: one a GPU, else one a core as far as the memory goes."""
    if gpus:
        return gpus
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(usable_cores(), int(memory // GIB_A_JOB)))


def threads_each(jobs: int) -> int:
    """Return how many processor threads a training has when so many run at a time."""
    return max(1, usable_cores() // jobs)


def run_local(trainings: list[Training], jobs: int, gpus: int = 0) -> Iterator[Event]:
    """Run trainings in worker processes and say when each starts and ends.

    The cores are divided among the jobs, however few trainings are left, since the number of threads decides a result's
    last digits; with GPUs, each job has one. When the caller stops asking, whatever still
    runs is killed: a training goes on from its last checkpoint, or begins anew, the next time.

    Args:
        trainings: in the order in which they start; those that need others wait for them.
        jobs: how many run at a time, at least 1.
        gpus: the graphics processors to divide among the jobs.
    """
    queue = Queue(trainings)
    places = list(reversed(range(jobs)))
    threads = threads_each(jobs)
    running: dict[int, tuple[BaseProcess, Training, int]] = {}
    try:
        while queue or running:
            while places and (training := queue.take()):
                if reason := queue.blocked(training):
                    queue.finish(training, reason)
                    yield Started(training)
                    yield Finished(training, reason)
                    continue
                place = places.pop()
                environment = {"CUDA_VISIBLE_DEVICES": str(place % gpus)} if gpus else {}
                log = RunFolder(training.folder).log
                process = workers.start(_run, training, threads, log=log, environment=environment)
                running[process.sentinel] = (process, training, place)
                yield Started(training)
            for sentinel in wait(list(running)):
                assert isinstance(sentinel, int)
                process, training, place = running.pop(sentinel)
                process.join()
                places.append(place)
                reason = _failure(process, training)
                queue.finish(training, reason)
                yield Finished(training, reason)
    finally:
        for process, _, _ in running.values():
            process.kill()
        for process, _, _ in running.values():
            process.join()


def _run(training: Training, threads: int) -> None:
    from ablations.training import run_and_record  # in the worker alone: this process stays without torch

    run_and_record(training, threads)


def _failure(process: BaseProcess, training: Training) -> str:
    """Return why a training failed, and record it where the training itself could not; empty if it did not fail."""
    folder = RunFolder(training.folder)
    if training.is_done():
        return ""
    code = process.exitcode
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
