"""What it costs to write a W&B run to the disk."""

import os
import statistics
import tempfile
import time
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

from ablations import workers
from ablations.executors import Finished, run_local
from ablations.plan import Scoring, Training
from ablations.tracking import Tracking
from tests.benchmarks.report import Figure
from tests.helpers.recipes import digits_recipe

EPOCHS, PAIRS, WIDE = 30, 9, 160
LAST = {"last": Scoring("last", {"weights": "last", "views": None})}


def wandb() -> Figure:
    """Time that a run on the disk adds to a training in a process of its own, as a share of one of about 17 s.

    It depends on the number of epochs, not on how long they are, so it is measured with short ones: there little hides
    it.
    """
    server = forkserver.ForkServer()  # of its own: other measures may have started that of this process
    server.set_forkserver_preload(workers.PRELOAD_TRACKED)
    with (
        mock.patch.dict(os.environ, {"WANDB_MODE": "offline"}),
        mock.patch.object(forkserver, "connect_to_new_process", server.connect_to_new_process),
    ):
        _seconds(4, False)  # the server gets ready
        added = statistics.median(-_seconds(4, False) + _seconds(4, True) for _ in range(PAIRS))
        whole = _seconds(WIDE, False)
    text = f"wandb offline logging of {EPOCHS} epochs ({added:.2f} s) / a training of {whole:.0f} s, %"
    return Figure(text, 100 * added / whole, 3, at_most=True)


def _seconds(width: int, tracked: bool) -> float:
    """Return how long a training takes, from asking for its process to that's end."""
    recipe = digits_recipe(trainer__max_epochs=EPOCHS, trainer__check_val_every_n_epoch=1, model__network__width=width)
    tracking = Tracking("benchmark", "training", inference="last") if tracked else None
    with tempfile.TemporaryDirectory() as folder:
        training = Training("key", 0, recipe, LAST, Path(folder), tracking=tracking)
        started = time.perf_counter()
        ended = [event for event in run_local([training], jobs=1) if isinstance(event, Finished)]
        assert not ended[0].reason, ended[0].reason
        return time.perf_counter() - started
