"""A checkpoint to resume from, at the end of an epoch."""

import time
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Checkpoint


class EpochCheckpoint(Checkpoint):
    """Save the state of the run at the end of an epoch, at most once in `min_seconds`, always to the same file.

    Only ends of epochs are saved, since everything random starts anew there (see `ReseedEachEpoch`); the last epoch is
    not, since nothing is left to resume. The file is replaced in one step, so it is always whole.

    Example::

        trainer = Trainer(callbacks=[EpochCheckpoint("run/last.ckpt")])
        trainer.fit(model, ckpt_path="run/last.ckpt", weights_only=True)

    Args:
        path: the checkpoint's file.
        min_seconds: the shortest time between two checkpoints, in seconds; 0 saves every epoch.
    """

    observes_only = True

    def __init__(self, path: str | Path, min_seconds: float = 60.0) -> None:
        self.path = Path(path)
        self.min_seconds = min_seconds
        self._last = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs:
            return
        due = trainer.strategy.broadcast(time.monotonic() - self._last >= self.min_seconds)
        if due:
            trainer.save_checkpoint(self.path)
            self._last = time.monotonic()
