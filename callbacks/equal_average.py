"""Equal-weight average of the weights at the ends of epochs.

The average is made at the end of an epoch, before its validation if that sees the average, and the last epoch counts.
"""

import math
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks.batch_norm_statistics import is_last_epoch, training_statistics
from callbacks.running_average import RunningAverage
from callbacks.stored_weights import StoredWeights, is_trial
from callbacks.trained_tensors import batch_statistics, complete_state


class EqualAverage(StoredWeights):
    """Average the weights at the ends of the epochs in the last part of the run, each with the same weight.

    This is stochastic weight averaging (Izmailov et al., 2018, arXiv:1803.05407) along the schedule that the module
    has; `SWA` takes the learning rate over too. Averaged are the trained parameters; all else is the module's own, and
    batch normalization's statistics are computed anew for the average when the run ends. A run that ends within an
    epoch, by `max_steps` or by early stopping, counts that as the epoch's end.

    It only observes: the weights of every step are the same without it, except where something acts on validation
    metrics, which `validate_with_average` makes those of the average. After a fit the module has its trained weights;
    tests and predictions use the average, and `stored_weights` returns it.

    Example::

        average = EqualAverage(start_fraction=0.5)
        trainer = Trainer(max_epochs=100, callbacks=[average])
        trainer.fit(module)  # averages the ends of the epochs 51 to 100
        trainer.test(module)

    Args:
        start_fraction: part of the run's optimizer steps, from 0 to below 1, after which epochs' ends are averaged.
        batch_norm: compute batch normalization's statistics anew, in a pass over the training data at the end of the
            run and before each validation with the average; otherwise they are averaged.
        validate_with_average: validate with the average during the fit, once there is one.

    Raises:
        ValueError: `start_fraction` is not in that range, the run has no end that it could be a part of, or what
            `StoredWeights` refuses.
    """

    observes_only = True
    provides = "average"

    def __init__(
        self, start_fraction: float = 0.75, batch_norm: bool = True, validate_with_average: bool = False
    ) -> None:
        super().__init__(validate_with_average)
        if not 0 <= start_fraction < 1:
            raise ValueError(
                f"{self._name}: start_fraction must be from 0 to below 1, a part of the run, not {start_fraction}."
            )
        self.start_fraction = start_fraction
        self.batch_norm = batch_norm
        self._reset()

    def _reset(self) -> None:
        self._average = RunningAverage(statistics=True)
        self._statistics: dict[str, Tensor] = {}
        self._averaged = 0
        self._averaged_at = -1  # the step
        self._statistics_of = 0  # how many were averaged when the statistics were computed
        self._start_step: int | None = None  # of the last part, once it has begun
        self._first_step, self._first_epoch = math.inf, math.inf  # where it will begin, whichever comes first

    def stored_weights(self, pl_module: L.LightningModule) -> dict[str, dict[str, Tensor]]:
        """Return the average as `average`; nothing, if the run ended before the first end of an epoch that counts."""
        return {self.provides: complete_state(pl_module, self.evaluation_weights())} if self._averaged else {}

    def evaluation_weights(self) -> Mapping[str, Tensor]:
        return {**self._average.tensors, **self._statistics} if self._averaged else {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._reset()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._plan(trainer, pl_module)
        if self._restored:  # the checkpoint may have been taken at an epoch's end, before it was averaged
            self._average_if_due(trainer, pl_module, _is_epoch_over(trainer))
        elif trainer.ckpt_path is not None and trainer.global_step > self._first_step:
            rank_zero_warn(f"{self._name}: {trainer.ckpt_path} holds no average; it begins with the loaded weights.")

    def _plan(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find where the last part begins; in epochs, where the data has no length."""
        steps = trainer.estimated_stepping_batches
        if trainer.num_training_batches == math.inf:
            steps = trainer.max_steps
            if trainer.max_epochs not in (None, -1):
                self._first_epoch = _part(self.start_fraction, trainer.max_epochs or 0)
        if 0 < steps < math.inf:
            self._first_step = _part(self.start_fraction, steps)
        if self._first_step == self._first_epoch == math.inf:
            raise ValueError(
                f"{self._name}: start_fraction is a part of the run, but the run has no end. "
                "Set Trainer(max_epochs=...) or Trainer(max_steps=...)."
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._start_step is not None:
            return
        if trainer.global_step >= self._first_step:
            self._start_step = int(self._first_step)
        elif trainer.current_epoch >= self._first_epoch:
            self._start_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._average_if_due(trainer, pl_module, epoch_over=False)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and self.validate_with_average:
            self._average_if_due(trainer, pl_module, _is_epoch_over(trainer))
            self._compute_statistics(trainer, pl_module)
        super().on_validation_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._average_if_due(trainer, pl_module, epoch_over=True)
        if is_last_epoch(trainer):  # before the last checkpoint is saved
            self._compute_statistics(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._compute_statistics(trainer, pl_module)
        if not self._averaged and not is_trial(trainer):
            rank_zero_warn(f"{self._name}: the run ended at step {trainer.global_step}, before anything was averaged.")

    def _average_if_due(self, trainer: L.Trainer, pl_module: L.LightningModule, epoch_over: bool) -> None:
        step = trainer.global_step
        if self._start_step is None or step in (self._start_step, self._averaged_at):
            return
        if self._is_due(step - self._start_step, epoch_over):
            self._average.follow(pl_module)
            self._average.update(1 / (self._averaged + 1))
            self._averaged += 1
            self._averaged_at = step
            self._statistics = {}  # those of the average before

    def _is_due(self, steps: int, epoch_over: bool) -> bool:
        """Say whether to average after so many steps of the last part."""
        return epoch_over

    def _compute_statistics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.batch_norm or self._statistics_of == self._averaged:
            return
        self._borrow(pl_module, self._average.tensors)
        try:
            self._statistics = training_statistics(trainer, pl_module)
        finally:
            self._take_back()
        self._statistics_of = self._averaged

    def _lend(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING
        if not fitting and self._averaged > self._statistics_of and self.batch_norm and batch_statistics(pl_module):
            rank_zero_warn(
                f"{self._name}: the average is that of an unfinished run, so the statistics of its batch normalization "
                "are averages too; those of the averaged weights are computed at the end."
            )
        super()._lend(trainer, pl_module)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        self._average.release()
        self._statistics = {name: value.cpu() for name, value in self._statistics.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "average": self._average.tensors,
            "statistics": self._statistics,
            "averaged": self._averaged,
            "averaged_at": self._averaged_at,
            "statistics_of": self._statistics_of,
            "start_step": self._start_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._average.tensors = state_dict["average"]
        self._statistics = state_dict["statistics"]
        self._averaged = state_dict["averaged"]
        self._averaged_at = state_dict["averaged_at"]
        self._statistics_of = state_dict["statistics_of"]
        self._start_step = state_dict["start_step"]


def _part(fraction: float, whole: float) -> int:
    return math.floor(fraction * whole + 1e-9)  # 0.29 * 100 is 28.999…


def _is_epoch_over(trainer: L.Trainer) -> bool:
    return trainer.is_last_batch or trainer.global_step == trainer.max_steps
