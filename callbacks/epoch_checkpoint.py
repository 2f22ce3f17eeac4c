"""A checkpoint to resume from, between two epochs.

It is taken as the next epoch starts, the first hook at which everything of the last one is done. At
`on_train_epoch_end`, where Lightning takes its own, schedulers that wait for a metric have not stepped yet, and a run
that resumes would never make that step.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Checkpoint


class EpochCheckpoint(Checkpoint):
    """Save the state of the run when an epoch is over, at most once in `min_seconds`, always to the same file.

    Only whole epochs are saved, since everything random starts anew after them (see `ReseedEachEpoch`); the last epoch
    is not, since nothing is left to resume. The file is replaced in one step, so it is always whole. A run that resumes
    calls the hook `on_train_epoch_start` of the other callbacks for that epoch once more.

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
        self._unsaved = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = time.monotonic()
        self._unsaved = False
        progress = trainer.fit_loop.epoch_progress.current
        if progress.ready == progress.completed:
            # Lightning takes a run with `max_steps` that resumes for one that stopped in the middle of an epoch.
            trainer.fit_loop._restarting = False
            trainer.fit_loop.epoch_loop.restarting = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._unsaved = True

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._unsaved:
            return
        due = trainer.strategy.broadcast(time.monotonic() - self._last >= self.min_seconds)
        if due:
            self._save(trainer)
            self._last = time.monotonic()
            self._unsaved = False

    def _save(self, trainer: L.Trainer) -> None:
        # Lightning's own way to replace a file goes over the folder for temporary files, perhaps on another disk.
        temporary = self.path.with_name(f"{self.path.name}.part")
        with _before_the_epoch(trainer):
            trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.path)


@contextmanager
def _before_the_epoch(trainer: L.Trainer) -> Iterator[None]:
    """Count the epoch that starts as not begun, or Lightning would skip its batches in the run that resumes."""
    progress = trainer.fit_loop.epoch_progress
    counters = (progress.total, progress.current)
    for counter in counters:
        counter.ready -= 1
    try:
        yield
    finally:
        for counter in counters:
            counter.ready += 1
