"""Linear learning-rate warm-up.

Counts optimizer steps, not batches, so gradient accumulation does not shorten it. The scheduled rate is scaled only for
the step itself and put back before the scheduler moves on, so the warm-up composes with every schedule, those that
compute a rate from the one before included.
"""

from typing import Any

import lightning as L
from torch.optim import Optimizer


class LinearWarmup(L.Callback):
    """Scale every learning rate by (t + 1) / n in optimizer step t, over the first n steps.

    The rate of step 0 is 1/n of the scheduled one, never 0, and step n - 1 is the first at the full rate. The schedule
    itself runs on below, as if there were no warm-up. Published in Goyal et al., 2017, arXiv:1706.02677, section 2.2;
    used for 5 of 120 epochs by He et al., 2018, arXiv:1812.01187, section 3.1.

    Example::

        trainer = Trainer(max_epochs=120, callbacks=[LinearWarmup(epochs=5)])

    Args:
        epochs: length of the warm-up in epochs; a fraction is a part of an epoch.

    Raises:
        ValueError: `epochs` is not positive, or the warm-up does not end before the run does.
    """

    def __init__(self, epochs: float = 5) -> None:
        if epochs <= 0:
            raise ValueError(f"LinearWarmup: epochs must be positive, not {epochs}. Leave the callback out for none.")
        self.epochs = epochs
        self._warmup_steps = 0
        self._steps = 0
        self._scheduled: list[list[float]] | None = None
        self._hooks: list[Any] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        total = float(trainer.estimated_stepping_batches)
        epochs = trainer.max_epochs if trainer.max_epochs not in (None, -1) else None
        batches = float(trainer.num_training_batches) / trainer.accumulate_grad_batches
        per_epoch = total / epochs if epochs and trainer.max_steps == -1 else batches
        self._warmup_steps = max(1, round(self.epochs * per_epoch))
        if self._warmup_steps >= total:
            raise ValueError(
                f"LinearWarmup: {self.epochs} epochs of warm-up are {self._warmup_steps} optimizer steps, but the "
                f"whole run has {total:g}. Choose fewer epochs, less than {total / per_epoch:g}."
            )
        if self._scheduled is not None:  # resumed between two batches of one accumulated step
            self._scale(trainer.optimizers)
        for optimizer in trainer.optimizers:
            self._hooks.append(optimizer.register_step_post_hook(self._after_step))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._scheduled is None and self._steps < self._warmup_steps:
            self._scheduled = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]
            self._scale(trainer.optimizers)
        self._optimizers = trainer.optimizers

    def _scale(self, optimizers: list[Optimizer]) -> None:
        factor = (self._steps + 1) / self._warmup_steps
        for optimizer, rates in zip(optimizers, self._scheduled or [], strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Put the scheduled rates back and count the step; the last optimizer of several counts."""
        if self._scheduled is None:
            return
        place = self._optimizers.index(optimizer)
        for group, rate in zip(optimizer.param_groups, self._scheduled[place], strict=True):
            group["lr"] = rate
        if place == len(self._optimizers) - 1:
            self._scheduled = None
            self._steps += 1

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._remove_hooks()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._remove_hooks()

    def _remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "scheduled": self._scheduled}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._steps = state_dict["steps"]
        self._scheduled = state_dict["scheduled"]
