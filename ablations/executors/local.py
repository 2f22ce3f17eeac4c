"""Runs trainings on this machine, each in processes of its own, several at a time."""

import os
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait

from ablations.environment import usable_cores
from ablations.executors.events import Event, Finished, Postponed, Started
from ablations.executors.queue import Queue
from ablations.executors.team import Team
from ablations.leases import POLL_SECONDS
from ablations.plan import Training

GIB_A_JOB = 2


def default_jobs(gpus: int, devices: int = 1) -> int:
    """Return how many trainings run at a time: one a GPU, else one a core as far as the memory goes.

    Args:
        gpus: the graphics processors of this machine.
        devices: how many each training takes, or, without any, how many processes.
    """
    if gpus:
        return max(1, gpus // devices)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(usable_cores(), int(memory // GIB_A_JOB)) // devices)


def most_devices(trainings: Iterable[Training]) -> int:
    """Return the devices of the training that takes most of them."""
    return max((training.processes.devices for training in trainings), default=1)


def threads_each(jobs: int) -> int:
    """Return how many processor threads a training has when so many run at a time."""
    return max(1, usable_cores() // jobs)


def run_local(trainings: list[Training], jobs: int, gpus: int = 0) -> Iterator[Event]:
    """Run trainings in worker processes and say when each starts and ends.

    The cores are divided among the jobs, however few trainings are left, since the number of threads decides a result's
    last digits; with GPUs, each job has as many as the training with the most devices. When the caller stops asking,
    whatever still runs is killed: a training goes on from its last checkpoint, or begins anew, the next time.

    Args:
        trainings: in the order in which they start; those that need others wait for them.
        jobs: how many run at a time, at least 1.
        gpus: the graphics processors to divide among the jobs.
    """
    queue = Queue(trainings)
    places = list(reversed(range(jobs)))
    threads, devices = threads_each(jobs), most_devices(trainings)
    running: list[tuple[Team, int]] = []
    try:
        while queue or running:
            while places and (training := queue.take()):
                reason = queue.blocked(training)
                if reason or training.is_done():  # done by another study on the same store
                    queue.finish(training, reason)
                    yield Started(training)
                    yield Finished(training, reason)
                    continue
                place = places.pop()
                first = place * devices
                seen = range(first, first + training.processes.devices) if gpus else ()
                running.append((Team(training, threads, [number % gpus for number in seen]), place))
                yield Started(training)
            sentinels = [sentinel for team, _ in running for sentinel in team.sentinels()]
            if not sentinels and not queue:  # the last ones were done by another study
                break
            # With places free, what is left waits for one that runs, which may be one of another study.
            wait(sentinels, POLL_SECONDS if queue and places else None)
            for team, place in [(team, place) for team, place in running if team.has_ended()]:
                running.remove((team, place))
                places.append(place)
                if team.was_busy():
                    queue.put_back(team.training)
                    yield Postponed(team.training)
                    continue
                reason = team.failure()
                queue.finish(team.training, reason)
                yield Finished(team.training, reason)
    finally:
        for team, _ in running:
            team.kill()
