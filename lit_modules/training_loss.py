"""The loss of training, as all modules here treat it: its mean over an epoch is logged, and must be a number."""

import math
from collections.abc import Mapping
from typing import Any

import lightning as L
from torch import Tensor, nn

from lit_modules.divergence import DivergedError
from lit_modules.metrics import SampleMean


class LogsTrainingLoss(L.LightningModule):
    """Base that logs ``train/loss``, the mean over an epoch's samples, and ``train/loss_<part>`` of its parts.

    A training step passes its loss to `count_loss`. A training that is resumed within an epoch logs the means of all of
    it, from what the checkpoint holds of its beginning.

    Raises:
        DivergedError: When a training epoch ends whose mean loss is NaN or infinite.
    """

    def __init__(self) -> None:
        super().__init__()
        self.train_loss, self.train_parts = SampleMean(), nn.ModuleDict()

    def count_loss(self, loss: Tensor, samples: int, parts: Mapping[str, Tensor] | None = None) -> Tensor:
        """Add a batch to the means of the epoch, and return its loss.

        Args:
            loss: Mean over the batch.
            samples: Samples in the batch.
            parts: Means of what adds up to the loss, by name.
        """
        self.train_loss.update(loss.detach() * samples, samples)
        for name, part in (parts or {}).items():
            self._mean_of(name).update(part.detach() * samples, samples)
        return loss

    def on_train_epoch_start(self) -> None:
        for mean in self._means().values():
            mean.reset()

    def on_train_epoch_end(self) -> None:
        if not self.train_loss.update_called:
            return  # resumed at the very end of an epoch, from a checkpoint without the epoch's loss
        loss = self.train_loss.compute().item()
        if not math.isfinite(loss):
            raise DivergedError(self.current_epoch, loss)
        self.log_dict({f"train/loss_{name}" if name else "train/loss": mean for name, mean in self._means().items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the epoch's losses so far."""
        # Under DDP each rank resumes from rank 0's share. Syncing here would hang where only one rank saves.
        if self.train_loss.update_called:
            checkpoint["train_losses"] = {
                name: {"total": mean.total, "count": int(mean.count)} for name, mean in self._means().items()
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, sums in checkpoint.get("train_losses", {}).items():
            mean = self._mean_of(name) if name else self.train_loss
            mean.reset()
            mean.update(**sums)

    def _mean_of(self, part: str) -> SampleMean:
        """Return the mean over the epoch of a part of the loss; which there are, the first batch says."""
        if part not in self.train_parts:
            self.train_parts[part] = SampleMean().to(self.device)
        return self._means()[part]

    def _means(self) -> dict[str, SampleMean]:
        """Return the means over the epoch: of the whole loss, under an empty name, and of its parts."""
        parts = {name: part for name, part in self.train_parts.items() if isinstance(part, SampleMean)}
        return {"": self.train_loss, **parts}
