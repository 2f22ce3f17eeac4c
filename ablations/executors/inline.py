"""Runs trainings one after the other in this process: for debugging, since a debugger and a traceback reach them."""

from collections.abc import Iterator

from ablations.executors.events import Event, Finished, Started
from ablations.executors.local import threads_each
from ablations.plan import Training
from ablations.store import RunFolder


def run_inline(trainings: list[Training], jobs: int) -> Iterator[Event]:
    """Run trainings in this process, in order, and say when each starts and ends.

    Args:
        trainings: in the order in which they run.
        jobs: how many would run at a time elsewhere. A training has as many threads as it would have there, since their
            number decides its last digits.
    """
    from ablations.training import run_and_record  # imports torch and Lightning, which other executors leave out

    for training in trainings:
        yield Started(training)
        try:
            run_and_record(training, threads_each(jobs))
        except SystemExit:
            yield Finished(training, RunFolder(training.folder).status().get("reason", "unknown"))
        else:
            yield Finished(training)
