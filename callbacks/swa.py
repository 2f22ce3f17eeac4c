"""Stochastic weight averaging, with the learning rate that it needs.

The rate is set before each optimizer step of the last part of the run. The module's schedule runs on, unheard.
"""

import math
from typing import Any

import lightning as L

from callbacks.equal_average import EqualAverage
from callbacks.stored_weights import is_trial


class SWA(EqualAverage):
    """Hold the learning rate constant or let it cycle in the last part of the run, and average the weights there.

    Published in Izmailov et al., 2018, arXiv:1803.05407, algorithm 1. With a constant rate the weights are averaged at
    the end of each epoch, with a cyclic one, which falls linearly from `lr` to `min_lr`, at the end of each cycle. The
    average is that of `EqualAverage`, which averages along the module's own schedule and only observes.

    The module's schedule, per step or per epoch, keeps its state and its steps; from the start on, the rate that it
    sets is replaced before each step. Other scheduled settings, such as a momentum, stay the schedule's. Parameter
    groups keep the ratio of their initial rates. Callbacks that read the rate go after this one.

    Example::

        swa = SWA(lr=0.05)
        trainer = Trainer(max_epochs=100, callbacks=[swa])
        trainer.fit(module)  # averages the ends of the epochs 76 to 100
        trainer.test(module)

    Args:
        lr: the rate, or the highest of a cycle, of the parameter group with the highest initial rate.
        start_fraction: part of the run's optimizer steps, from 0 to below 1, after which the last part begins.
        cycle_epochs: length of a cycle in epochs, of which the last part is a whole number; None is a constant rate.
        min_lr: the lowest rate of a cycle, that of its last step; only with `cycle_epochs`.
        batch_norm: compute batch normalization's statistics anew, in a pass over the training data at the end of the
            run and before each validation with the average; otherwise they are averaged.
        validate_with_average: validate with the average during the fit, once there is one.

    Raises:
        ValueError: an argument is out of its range, the module optimizes manually, the last part is not a whole number
            of cycles or has no known length, or what `EqualAverage` refuses.
    """

    observes_only = False
    provides = "swa"

    def __init__(
        self,
        lr: float,
        start_fraction: float = 0.75,
        cycle_epochs: int | None = None,
        min_lr: float = 0.0,
        batch_norm: bool = True,
        validate_with_average: bool = False,
    ) -> None:
        super().__init__(start_fraction, batch_norm, validate_with_average)
        problems = []
        if not 0 < lr < math.inf:
            problems.append(f"lr must be positive, not {lr}")
        if cycle_epochs is not None and cycle_epochs < 1:
            problems.append(f"cycle_epochs must be at least 1, not {cycle_epochs}")
        if not 0 <= min_lr <= lr:
            problems.append(f"min_lr must be from 0 to lr={lr}, not {min_lr}")
        if cycle_epochs is None and min_lr:
            problems.append(f"min_lr={min_lr} needs cycle_epochs; without it the rate is constant")
        if problems:
            raise ValueError(f"SWA: {'; '.join(problems)}.")
        self.lr = lr
        self.cycle_epochs = cycle_epochs
        self.min_lr = min_lr
        self._cycle_steps: int | None = None
        self._ratios: list[float] = []

    def _plan(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not pl_module.automatic_optimization:
            raise ValueError(
                f"SWA: {type(pl_module).__name__} optimizes manually, so the rate of its steps cannot be taken over. "
                "Use automatic optimization, or EqualAverage, which leaves the rate alone."
            )
        super()._plan(trainer, pl_module)
        rates = [float(group.get("initial_lr", group["lr"])) for group in trainer.optimizers[0].param_groups]
        self._ratios = [rate / max(rates) if max(rates) else 1.0 for rate in rates]
        self._cycle_steps = self._count_cycle_steps(trainer) if self.cycle_epochs is not None else None

    def _count_cycle_steps(self, trainer: L.Trainer) -> int:
        if trainer.num_training_batches == math.inf:
            raise ValueError(
                "SWA: the training data has no length, so the number of optimizer steps in a cycle is unknown. "
                "Set Trainer(limit_train_batches=...), or leave cycle_epochs out for a constant rate."
            )
        per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        steps = (self.cycle_epochs or 0) * per_epoch
        total = int(trainer.estimated_stepping_batches)
        last_part = total - int(self._first_step)
        if last_part % steps and not is_trial(trainer):
            raise ValueError(
                f"SWA: the last part of the run, from start_fraction={self.start_fraction} on, has {last_part} of "
                f"{total} optimizer steps, which is not a whole number of cycles of {self.cycle_epochs} epochs of "
                f"{per_epoch} steps. {_advise(total, steps, self.start_fraction)}"
            )
        return steps

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._set_rate(trainer, trainer.global_step)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._set_rate(trainer, trainer.global_step - 1)  # the schedule has moved; show the rate of the last step
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _set_rate(self, trainer: L.Trainer, step: int) -> None:
        if self._start_step is None or step < self._start_step:
            return
        rate = self._rate(step - self._start_step)
        for group, ratio in zip(trainer.optimizers[0].param_groups, self._ratios, strict=True):
            group["lr"] = rate * ratio

    def _rate(self, step: int) -> float:
        """Return the rate of a step of the last part; the first step of a cycle is below `lr`, as in the paper."""
        if self._cycle_steps is None:
            return self.lr
        progress = (step % self._cycle_steps + 1) / self._cycle_steps
        return (1 - progress) * self.lr + progress * self.min_lr

    def _is_due(self, steps: int, epoch_over: bool) -> bool:
        return epoch_over if self._cycle_steps is None else steps % self._cycle_steps == 0


def _advise(total: int, cycle: int, fraction: float) -> str:
    """Name the start that gives whole cycles and is nearest to the one asked for."""
    if total < cycle:
        return "The whole run is shorter than a cycle."
    cycles = min(max(1, round((1 - fraction) * total / cycle)), total // cycle)
    return f"Set start_fraction={1 - cycles * cycle / total:.6g} for {cycles} whole cycles, or another cycle_epochs."
