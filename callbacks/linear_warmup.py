"""Linear learning-rate warm-up.

Counts optimizer steps, not batches, so gradient accumulation does not shorten it. The rates are scaled for the step
itself and put back before the schedule moves on, so the warm-up composes with every schedule, those that compute a rate
from the one before included. They are scaled from the start of the batch, so that whoever reads the rate there, such as
`LearningRateMonitor`, sees the one that the step uses.
"""

import math
from typing import Any

import lightning as L
from torch.optim import Optimizer


class LinearWarmup(L.Callback):
    """Scale every learning rate by (t + 1) / n in optimizer step t, over the first n steps.

    The rate of step 0 is 1/n of the scheduled one, never 0, and step n - 1 is the first at the full rate. The schedule
    itself runs on below, as if there were no warm-up. Callbacks that read the rate go after this one. Published in
    Goyal et al., 2017, arXiv:1706.02677, section 2.2; used for 5 of 120 epochs by He et al., 2018, arXiv:1812.01187,
    section 3.1.

    Example::

        trainer = Trainer(max_epochs=120, callbacks=[LinearWarmup(epochs=5)])

    Args:
        epochs: length of the warm-up in epochs; a fraction is a part of an epoch, rounded to whole steps.

    Raises:
        ValueError: `epochs` is not a positive number, the warm-up does not end before the run does, an epoch has no
            known length, or the module optimizes manually.
    """

    def __init__(self, epochs: float = 5) -> None:
        if not 0 < epochs < math.inf:
            raise ValueError(f"LinearWarmup: epochs must be positive, not {epochs}. Leave the callback out for none.")
        self.epochs = epochs
        self._warmup_steps = 0
        self._steps = 0
        self._scheduled: list[float] | None = None  # the schedule's rates, while the optimizer holds scaled ones
        self._stepping = False
        self._hooks: list[Any] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":  # a run that resumes loads its state after this
            self._steps, self._scheduled = 0, None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._warmup_steps = self._count_warmup_steps(trainer, pl_module)
        (optimizer,) = trainer.optimizers
        self._stepping = False
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def _count_warmup_steps(self, trainer: L.Trainer, pl_module: L.LightningModule) -> int:
        if not pl_module.automatic_optimization:
            raise ValueError(
                f"LinearWarmup: {type(pl_module).__name__} optimizes manually, so the number of its optimizer steps in "
                "an epoch is unknown. Use automatic optimization, or put the warm-up into the module's schedule."
            )
        per_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
        if per_epoch == math.inf:
            raise ValueError(
                "LinearWarmup: the training data has no length, so the number of optimizer steps in an epoch is "
                "unknown. Set Trainer(limit_train_batches=...) to the number of batches in an epoch."
            )
        per_epoch, total = math.ceil(per_epoch), trainer.estimated_stepping_batches
        steps = round(self.epochs * per_epoch)
        if steps >= total:
            raise ValueError(
                f"LinearWarmup: {self.epochs} epochs of warm-up are {steps} optimizer steps, but the whole run has "
                f"{total:g}. Choose fewer epochs, less than {total / per_epoch:g}."
            )
        return steps

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._scale(trainer.optimizers[0])

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._scale(trainer.optimizers[0])

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        if not self._stepping:  # under a gradient scaler, which may skip the step, but not the schedule's
            self._put_back(optimizer)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._stepping = True
        self._scale(optimizer)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._stepping = False
        if self._scheduled is None:
            return
        self._put_back(optimizer)
        overflow = getattr(optimizer, "found_inf", None)  # fused optimizers skip the step by themselves
        if overflow is None or not overflow.item():
            self._steps += 1

    def _scale(self, optimizer: Optimizer) -> None:
        if self._scheduled is not None or self._steps >= self._warmup_steps:
            return
        self._scheduled = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * ((self._steps + 1) / self._warmup_steps)

    def _put_back(self, optimizer: Optimizer) -> None:
        if self._scheduled is not None:
            # A group that was added in the meantime comes last and has its scheduled rate.
            for group, rate in zip(optimizer.param_groups, self._scheduled, strict=False):
                group["lr"] = rate
            self._scheduled = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._leave(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._leave(trainer)

    def _leave(self, trainer: L.Trainer) -> None:
        if self._hooks:
            self._put_back(trainer.optimizers[0])
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "scheduled": self._scheduled}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._steps = state_dict["steps"]
        self._scheduled = state_dict["scheduled"]
