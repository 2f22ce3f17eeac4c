"""The weights of the best validation epoch."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from callbacks.stored_weights import StoredWeights
from callbacks.trained_tensors import complete_state, trained_buffers, trained_parameters


class BestWeights(StoredWeights):
    """Keep the weights of the validation with the best value of a metric; of equal ones the first.

    Kept are the weights that were validated: those of an average, where a callback before this one validates with it.
    It only observes: the run goes to its end, and the module ends with its last weights; tests and predictions use the
    best ones, and `stored_weights` returns them. To end the run when there is nothing more to gain, add Lightning's
    `EarlyStopping`; together they are early stopping as in Prechelt, 1998.

    Example::

        best = BestWeights(monitor="val/accuracy", mode="max")
        trainer = Trainer(callbacks=[best, EarlyStopping("val/accuracy", mode="max", patience=10)])
        trainer.fit(module)
        trainer.test(module)  # the best weights

    Args:
        monitor: name of the metric, as logged in validation. Under DDP its mean over the processes counts.
        mode: whether the metric is best at its maximum or at its minimum.

    Raises:
        ValueError: `mode` is neither, the run has no validation, the metric is not logged in it, or what
            `StoredWeights` refuses.
    """

    observes_only = True
    provides = "best"

    def __init__(self, monitor: str = "val/accuracy", mode: Literal["min", "max"] = "max") -> None:
        super().__init__()
        if mode not in ("min", "max"):
            raise ValueError(f"BestWeights: mode must be 'min' or 'max', not {mode!r}.")
        self.monitor = monitor
        self.mode = mode
        self._reset()

    def _reset(self) -> None:
        self._best: dict[str, Tensor] = {}
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self._validated: dict[str, Tensor] = {}

    @property
    def state_key(self) -> str:
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    def stored_weights(self, pl_module: L.LightningModule) -> dict[str, dict[str, Tensor]]:
        """Return the best weights as `best`."""
        return {"best": complete_state(pl_module, self._best)} if self._best else {}

    def evaluation_weights(self) -> Mapping[str, Tensor]:
        return self._best

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._reset()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        every = trainer.check_val_every_n_epoch
        epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
        if not trainer.enable_validation or (every is not None and 0 <= epochs < every):
            raise ValueError(
                f"BestWeights: the run has no validation, so {self.monitor!r} is never known. Give it validation data, "
                "and validate within the run (limit_val_batches, check_val_every_n_epoch)."
            )

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        self._validated = {}

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        # After the first batch every callback has put in what it validates with, and DDP has synchronized the buffers.
        if not self._validated and _fits(trainer):
            with torch.inference_mode(False), torch.no_grad():
                tensors = {**trained_parameters(pl_module), **trained_buffers(pl_module)}
                self._validated = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not _fits(trainer):
            return
        score = self._read_score(trainer, pl_module)
        if self._is_better(score):
            self._best = {name: tensor.cpu() for name, tensor in self._validated.items()}
            self.best_score, self.best_epoch = score, trainer.current_epoch
        self._validated = {}

    def _read_score(self, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            logged = ", ".join(map(repr, sorted(trainer.callback_metrics))) or "nothing"
            raise ValueError(
                f"BestWeights: no validation logged {self.monitor!r}. Logged so far: {logged}. "
                "Set monitor to one of these, or log it in the validation."
            )
        # In double precision the mean of equal numbers is that number.
        value = value.detach().to(pl_module.device, copy=True)
        value = value if value.device.type == "mps" else value.double()
        return float(trainer.strategy.reduce(value, reduce_op="mean"))

    def _is_better(self, score: float) -> bool:
        if math.isnan(score):
            return False
        if self.best_score is None:
            return True
        return score > self.best_score if self.mode == "max" else score < self.best_score

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "score": self.best_score, "epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._best = state_dict["best"]
        self.best_score = state_dict["score"]
        self.best_epoch = state_dict["epoch"]


def _fits(trainer: L.Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
