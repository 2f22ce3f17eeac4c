"""Runs trainings one after the other in this process: for debugging, since a debugger and a traceback reach them."""

import time
from collections.abc import Iterator

from ablations.executors.events import Event, Finished, Postponed, Started
from ablations.executors.local import threads_each
from ablations.executors.queue import Queue
from ablations.leases import BUSY, POLL_SECONDS
from ablations.plan import Training
from ablations.store import RunFolder


def run_inline(trainings: list[Training], jobs: int) -> Iterator[Event]:
    """Run trainings in this process, in order, and say when each starts and ends.

    Args:
        trainings: in the order in which they run; those that need others wait for them.
        jobs: how many would run at a time elsewhere. A training has as many threads as it would have there, since their
            number decides its last digits.
    """
    from ablations.training import run_and_record  # imports torch and Lightning, which other executors leave out

    queue = Queue(trainings)
    while queue:
        training = queue.take()
        if training is None:  # another study is at all that are left
            time.sleep(POLL_SECONDS)
            continue
        yield Started(training)
        reason = queue.blocked(training)
        if not reason:
            try:
                run_and_record(training, threads_each(jobs), wait=False)
            except SystemExit as end:
                if end.code == BUSY:
                    queue.put_back(training)
                    yield Postponed(training)
                    continue
                reason = RunFolder(training.folder).status().get("reason", "unknown")
        queue.finish(training, reason)
        yield Finished(training, reason)
