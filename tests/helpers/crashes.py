"""Things that go wrong in a run, and checkpoints at unusual places."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch

from tests.helpers.one_weight import CrashError


class CrashInValidation(L.Callback):
    """Raise in the validation of an epoch, after its first batch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise CrashError


class SaveAt(L.Callback):
    """Save a checkpoint in a hook of an epoch, as users' callbacks do: before or after the others', as they are listed.

    Args:
        path: the file.
        hook: the name of the hook.
        epoch: when.
        batch: in which batch, for hooks of batches.
        arguments: for `Trainer.save_checkpoint`.
    """

    def __init__(self, path: Path, hook: str, epoch: int, batch: int | None = None, **arguments: Any) -> None:
        self.path = path
        setattr(self, hook, self._make_hook(epoch, batch, arguments))

    def _make_hook(self, epoch: int, batch: int | None, arguments: dict[str, Any]) -> Callable[..., None]:
        def save(trainer: L.Trainer, pl_module: L.LightningModule, *given: Any) -> None:
            place = given[-1] if batch is not None else None
            if not trainer.sanity_checking and (trainer.current_epoch, place) == (epoch, batch):
                trainer.save_checkpoint(self.path, **arguments)

        return save


def load(path: Path) -> dict[str, Any]:
    """Return a checkpoint."""
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint
