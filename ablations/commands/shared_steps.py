"""What `run` and `fit` have in common: searches of learning rates, and whether W&B can be reached."""

from collections.abc import Iterable

from ablations.commands.console import err
from ablations.executors import Event, Finished, run_local
from ablations.plan import Training
from ablations.store import RunFolder, make_writable


def search_rate(training: Training) -> bool:
    """Run the learning-rate search of a recipe in a process of its own; return whether it found a rate."""
    make_writable(training.folder)
    return say_searches(run_local([training], jobs=1))


def say_searches(events: Iterable[Event]) -> bool:
    """Follow learning-rate searches and say how they end; return whether all found a rate."""
    found = True
    for event in events:
        if isinstance(event, Finished) and event.reason:
            err.print(f"The search for a learning rate failed: {event.reason}", style="red", markup=False)
            found = False
        elif isinstance(event, Finished):
            path = RunFolder(event.training.folder).search
            err.print(f"Searched a learning rate; the search is in {path}.", soft_wrap=True)
    return found


def connect_in_worker() -> str:
    from ablations.tracking.connection import connect  # imports Lightning and the client

    return connect()


def goes_offline(reason: str) -> bool:
    """Return whether runs are written to the disk alone because W&B cannot be reached, and say that, once for all."""
    if reason:
        said = f"W&B cannot be reached ({reason}). The trainings go on; `wandb sync` sends later what they write."
        err.print(said, style="yellow", markup=False, soft_wrap=True)
    return bool(reason)
