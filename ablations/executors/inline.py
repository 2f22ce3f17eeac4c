"""Runs trainings one after the other in this process: for debugging, since a debugger and a traceback reach them."""

from collections.abc import Iterator

from ablations.executors.events import Event, Finished, Started
from ablations.plan import Training
from ablations.store import RunFolder


def run_inline(trainings: list[Training]) -> Iterator[Event]:
    """Run trainings in this process, in order, and say when each starts and ends."""
    from ablations.training import run_and_record  # imports torch and Lightning, which other executors leave out

    for training in trainings:
        yield Started(training)
        try:
            run_and_record(training)
        except SystemExit:
            yield Finished(training, RunFolder(training.folder).status().get("reason", "unknown"))
        else:
            yield Finished(training)
