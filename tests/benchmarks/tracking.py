"""What it costs to write a W&B run to the disk."""

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

from ablations.plan import Scoring, Training
from ablations.tracking import Tracking
from ablations.training import run_training
from tests.benchmarks.report import Figure
from tests.helpers.recipes import digits_recipe

EPOCHS = 400


def wandb() -> Figure:
    """The whole of a training and its scores with and without a run on the disk, from opening to closing it."""
    recipe = digits_recipe(trainer__max_epochs=EPOCHS, model__network__width=16)
    scorings = {"last": Scoring("last", {"weights": "last", "views": None})}
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"WANDB_MODE": "offline"}):
        plain = Training("key", 0, recipe, scorings, Path(folder))
        tracked = replace(plain, tracking=Tracking("benchmark", "training", inference="last"))
        times = []
        for number, training in enumerate((plain, tracked, plain, tracked)):
            started = time.perf_counter()
            run_training(replace(training, folder=Path(folder) / str(number)))
            times.append(time.perf_counter() - started)
    share = min(times[1::2]) / min(times[::2]) - 1
    text = f"wandb offline logging / training ({min(times[::2]):.0f} s), %"
    return Figure(text, 100 * share, 3, at_most=True)
