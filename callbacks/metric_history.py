"""The learning curve of a run as a plain CSV file."""

import csv
import io
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor


class MetricHistory(Checkpoint):
    """Write what was logged in every epoch to a file with one line an epoch.

    Lightning's `CSVLogger` starts anew when a run resumes; this history is part of the checkpoint and goes on. It
    is a `Checkpoint` for Lightning, which calls those last, when the module has logged its epoch. The file is written
    at the end of the run and when it is interrupted.

    Example::

        trainer = Trainer(callbacks=[MetricHistory("run/metrics.csv")])

    Args:
        path: the CSV file: columns `epoch`, `step` (optimizer steps so far), `lr` (that the epoch's last batch was
            trained with, of the first parameter group) and every logged metric, empty in epochs without it.
    """

    observes_only = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._epochs: dict[int, dict[str, float]] = {}
        self._known: dict[str, Tensor] = {}
        self._lr: float | Tensor = float("nan")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":  # a run that resumes loads its state after this
            self._epochs, self._known = {}, {}

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.optimizers:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self._lr = rate.clone() if isinstance(rate, Tensor) else rate  # schedules change tensors in place

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if self._is_new(name, value)}
        self._known = dict(trainer.callback_metrics)
        self._epochs[trainer.current_epoch] = {"step": trainer.global_step, "lr": float(self._lr), **metrics}

    def _is_new(self, name: str, value: Tensor) -> bool:
        """Whether it was logged in this epoch; Lightning keeps showing what it got in an earlier one."""
        return name not in self._known or value.data_ptr() != self._known[name].data_ptr()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._write()

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self._epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._epochs = dict(state_dict["epochs"])

    @rank_zero_only
    def _write(self) -> None:
        columns = dict.fromkeys(["epoch", "step", "lr", *(name for row in self._epochs.values() for name in row)])
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch, **values} for epoch, values in sorted(self._epochs.items()))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f"{self.path.name}.part")
        temporary.write_text(text.getvalue(), encoding="utf-8")
        temporary.replace(self.path)
