"""The learning curve of a run as a plain CSV file."""

import csv
import io
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only


class MetricHistory(Checkpoint):
    """Write what was logged in every epoch to a file with one line an epoch.

    Lightning's `CSVLogger` starts anew when a run resumes; this history is part of the checkpoint and goes on. It
    is a `Checkpoint` for Lightning, which calls those last, when the module has logged its epoch. The file is written
    at the end of the run and when it is interrupted.

    Example::

        trainer = Trainer(callbacks=[MetricHistory("run/metrics.csv")])

    Args:
        path: the CSV file: columns `epoch`, `step`, `lr` (of the first parameter group) and every logged metric.
    """

    observes_only = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._epochs: dict[int, dict[str, float]] = {}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        lr = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else float("nan")
        self._epochs[trainer.current_epoch] = {"step": trainer.global_step, "lr": float(lr), **metrics}

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
        columns = ["epoch", *dict.fromkeys(name for values in self._epochs.values() for name in values)]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch, **values} for epoch, values in sorted(self._epochs.items()))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(text.getvalue(), encoding="utf-8")
