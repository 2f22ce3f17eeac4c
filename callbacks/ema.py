"""Exponential moving average of the weights.

Counts optimizer steps, not batches, so gradient accumulation does not speed it up.
"""

import math
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks.running_average import RunningAverage
from callbacks.stored_weights import StoredWeights, is_trial
from callbacks.trained_tensors import complete_state, follow_first_rank


class EMA(StoredWeights):
    """Average the weights exponentially, update t with decay min(decay, (1 + t) / (10 + t)); Polyak & Juditsky, 1992.

    The average begins as the weights at the start of the fit and is updated after every n-th optimizer step, t counting
    from 0. Averaged are the trained parameters and the running means and variances of normalization layers; all else
    is the module's own: frozen parameters, which are not even copied, and other buffers such as counters.

    It only observes: the weights of every step are the same without it, except where something acts on validation
    metrics, which `validate_with_average` makes those of the average. After a fit the module has its trained weights;
    tests and predictions use the average, and `stored_weights` returns it. A checkpoint has the trained weights in
    its `state_dict` and the average in this callback's state.

    Example::

        ema = EMA(decay=0.9999)
        trainer = Trainer(callbacks=[ema])
        trainer.fit(module)
        trainer.test(module)  # the average
        module.load_state_dict(ema.stored_weights(module)["ema"])

    Args:
        decay: weight of the average in its update, between 0 and 1.
        warmup: let the decay rise to its value, so that the average forgets the initial weights in a short run too.
        every_n_steps: number of optimizer steps from one update to the next; `decay` is that of an update.
        average_batch_norm: average the statistics of normalization layers; otherwise they are the module's own.
        validate_with_average: validate with the average during the fit, once it has been updated. Where several rows
            share a training, set it to False: the learning curve is then that of the trained weights.

    Raises:
        ValueError: `decay` is not between 0 and 1, `every_n_steps` is not positive or more than the run has, or what
            `StoredWeights` refuses.
    """

    observes_only = True
    provides = "ema"

    def __init__(
        self,
        decay: float = 0.999,
        warmup: bool = True,
        every_n_steps: int = 1,
        average_batch_norm: bool = True,
        validate_with_average: bool = True,
    ) -> None:
        super().__init__(validate_with_average)
        problems = []
        if not 0 < decay < 1:
            problems.append(f"decay must be between 0 and 1, not {decay}")
        if every_n_steps < 1:
            problems.append(f"every_n_steps must be at least 1, not {every_n_steps}")
        if problems:
            raise ValueError(f"EMA: {'; '.join(problems)}.")
        self.decay = decay
        self.warmup = warmup
        self.every_n_steps = every_n_steps
        self.average_batch_norm = average_batch_norm
        self._reset()

    def _reset(self) -> None:
        self._average = RunningAverage(self.average_batch_norm)
        self._steps = 0
        self._updates = 0
        self._global_step = 0  # where the trainer was when the last step was counted

    @property
    def state_key(self) -> str:
        return self._generate_state_key(
            decay=self.decay,
            warmup=self.warmup,
            every_n_steps=self.every_n_steps,
            average_batch_norm=self.average_batch_norm,
        )

    def stored_weights(self, pl_module: L.LightningModule) -> dict[str, dict[str, Tensor]]:
        """Return the average as `ema`, once it has been updated."""
        return {"ema": complete_state(pl_module, self._average.tensors)} if self._updates else {}

    def evaluation_weights(self) -> Mapping[str, Tensor]:
        return self._average.tensors if self._updates else {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._reset()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._check_length(trainer)
        self._average.follow(pl_module)
        if self._restored:
            self._count_step(trainer)  # the checkpoint may have been taken after a step, before it was counted
        else:
            if trainer.ckpt_path is not None:
                rank_zero_warn(
                    f"{self._name}: {trainer.ckpt_path} holds no average; it begins with the loaded weights."
                )
            self._global_step = trainer.global_step

    def _check_length(self, trainer: L.Trainer) -> None:
        if self.every_n_steps == 1 or is_trial(trainer):
            return
        if 0 < trainer.estimated_stepping_batches < self.every_n_steps:
            raise ValueError(
                f"EMA: every_n_steps={self.every_n_steps}, but the whole run has only "
                f"{trainer.estimated_stepping_batches} optimizer steps."
            )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._average.follow(pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._average.is_outdated():
            self._average.follow(pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._count_step(trainer)

    def _count_step(self, trainer: L.Trainer) -> None:
        if trainer.global_step == self._global_step:
            return  # gradients are being accumulated
        self._global_step = trainer.global_step
        self._steps += 1
        if self._steps % self.every_n_steps == 0:
            warmup = (1 + self._updates) / (10 + self._updates) if self.warmup else math.inf
            self._average.update(1 - min(self.decay, warmup))
            self._updates += 1

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        parameters = dict(pl_module.named_parameters())
        averaged = self._average.tensors.items()
        follow_first_rank(trainer, (tensor for name, tensor in averaged if name not in parameters))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        self._average.release()

    def state_dict(self) -> dict[str, Any]:
        return {
            "average": self._average.tensors,
            "steps": self._steps,
            "updates": self._updates,
            "global_step": self._global_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._average.tensors = state_dict["average"]
        self._steps = state_dict["steps"]
        self._updates = state_dict["updates"]
        self._global_step = state_dict["global_step"]
