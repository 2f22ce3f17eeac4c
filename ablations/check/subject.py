"""The recipe that is checked, and the short fits in which diagnostics look at it.

A fit is that of the recipe: its precision, batches, callbacks and the beginning of its schedule, since it is made as
long as the recipe says and left early. Every fit begins anew, from the recipe's seed.
"""

import contextlib
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import lightning as L
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor

from ablations.check.first_steps import FirstSteps, FirstStepsRecorder
from ablations.errors import RecipeError
from ablations.parsing import Parts, build
from ablations.recipe import Recipe
from callbacks import ReseedEachEpoch
from lit_modules import DivergedError

Result = TypeVar("Result")

FIRST_STEPS = 20
"""Optimizer steps whose losses and gradients are looked at."""

ONE_PROCESS = {
    "logger": None, "profiler": None, "devices": 1, "num_nodes": 1, "strategy": "auto", "fast_dev_run": False,
}  # fmt: skip
"""Arguments of the trainer that fits of the check have instead of the recipe's."""


@dataclass(frozen=True)
class Moment:
    """The first batch of a fit, on its device, before the first step.

    Args:
        trainer: the trainer.
        module: the untrained module, in training mode. It is thrown away and may be changed.
        batch: what the module's training step gets.
    """

    trainer: L.Trainer
    module: Any
    batch: Any

    def compute_loss(self, batch: Any) -> Tensor:
        """Return the training loss of a batch, in the precision of the recipe."""
        with self.trainer.precision_plugin.train_step_context():
            output = self.module.training_step(batch, 0)
        loss: Tensor = output if isinstance(output, Tensor) else output["loss"]
        return loss

    def compute_scores(self, images: Tensor) -> Tensor:
        """Return the module's outputs for images, without gradients."""
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            scores: Tensor = self.module(images)
        return scores.float()


class Subject:
    """A recipe that is checked.

    Args:
        config: the resolved recipe, with its seed.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        recipe = Recipe(config)
        for name, value in ONE_PROCESS.items():
            recipe.set(f"trainer.{name}", None)  # what may stand there, such as a logger, becomes no plain value
            recipe.set(f"trainer.{name}", value)
        self.config = recipe.config

    def get(self, path: str) -> Any:
        """Return the value at a path of the recipe, None where there is no such path."""
        try:
            return Recipe(self.config).get(path)
        except RecipeError:
            return None

    def build(self, settings: dict[str, Any] | None = None) -> Parts:
        """Build the recipe's objects anew, with other values at those of the paths that it has."""
        recipe = Recipe(self.config)
        for path, value in (settings or {}).items():
            with contextlib.suppress(RecipeError):  # another kind of data or model has no such argument
                recipe.set(path, value)
        L.seed_everything(self.config["seed_everything"], workers=True, verbose=False)
        return build(recipe.config)

    @cached_property
    def parts(self) -> Parts:
        """The untrained parts, to look at and not to change; the data is set up."""
        parts = self.build()
        parts.datamodule.prepare_data()
        for stage in ("fit", "test"):
            parts.datamodule.setup(stage)
        return parts

    @cached_property
    def first_steps(self) -> FirstSteps:
        """What happens in the first steps of the training."""
        recorder = FirstStepsRecorder()
        self.fit(FIRST_STEPS, recorder)
        return recorder.record()

    def at_first_batch(self, look: Callable[[Moment], Result], settings: dict[str, Any] | None = None) -> Result:
        """Begin a fit, look at its first batch and leave it."""
        looks = _LookAtFirstBatch(look)
        self.fit(1, looks, settings=settings)
        result: Result = looks.result
        return result

    def fit(self, steps: int, *callbacks: L.Callback, settings: dict[str, Any] | None = None) -> None:
        """Train for some optimizer steps, or until the training ends or diverges."""
        parts = self.build(settings)
        arguments = dict(parts.trainer_arguments)
        own = [callback for callback in arguments["callbacks"] or [] if not isinstance(callback, Checkpoint)]
        reseed = ReseedEachEpoch(self.config["seed_everything"])
        with tempfile.TemporaryDirectory() as folder:
            arguments |= {
                "callbacks": [*own, reseed, *callbacks, _LeaveAfter(steps)],
                "default_root_dir": folder,
                "logger": DummyLogger(),  # for callbacks that want one
                "log_every_n_steps": 1,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "num_sanity_val_steps": 0,
                # One batch is enough for schedules and callbacks that wait for a metric.
                "limit_val_batches": 0 if arguments["limit_val_batches"] == 0 else 1,
            }
            with contextlib.suppress(_LeftEarlyError, DivergedError), warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=PossibleUserWarning)  # hints about workers and intervals
                warnings.filterwarnings("ignore", message="`isinstance.treespec, LeafSpec.`", category=FutureWarning)
                L.Trainer(**arguments).fit(parts.module, datamodule=parts.datamodule)


class _LeftEarlyError(Exception):
    """A fit has shown enough."""


class _LeaveAfter(L.Callback):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step >= self.steps:
            raise _LeftEarlyError


class _LookAtFirstBatch(L.Callback):
    def __init__(self, look: Callable[[Moment], Any]) -> None:
        self.look = look
        self.result: Any = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.result = self.look(Moment(trainer, pl_module, batch))
        raise _LeftEarlyError
