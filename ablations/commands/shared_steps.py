"""What `run` and `fit` have in common: searches of learning rates, and whether W&B can be reached."""

from ablations.commands.console import err
from ablations.executors import Finished, run_local
from ablations.plan import Training
from ablations.store import RunFolder, make_writable


def search_rate(training: Training) -> bool:
    """Run the learning-rate search of a recipe in a process of its own; return whether it found a rate."""
    make_writable(training.folder)
    for event in run_local([training], jobs=1):
        if isinstance(event, Finished) and event.reason:
            err.print(f"The search for a learning rate failed: {event.reason}", style="red", markup=False)
            return False
    err.print(f"Searched a learning rate; the search is in {RunFolder(training.folder).search}.", soft_wrap=True)
    return True


def connect_in_worker() -> str:
    from ablations.tracking.connection import connect  # imports Lightning and the client

    return connect()


def goes_offline(reason: str) -> bool:
    """Return whether runs are written to the disk alone because W&B cannot be reached, and say that, once for all."""
    if reason:
        said = f"W&B cannot be reached ({reason}). The trainings go on; `wandb sync` sends later what they write."
        err.print(said, style="yellow", markup=False, soft_wrap=True)
    return bool(reason)
