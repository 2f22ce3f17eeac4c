"""Snapshots of the weights along one training, the members of a snapshot ensemble."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from callbacks.stored_weights import StoredWeights, is_trial
from callbacks.trained_tensors import complete_state, follow_first_rank, trained_buffers, trained_parameters


class SnapshotEnsemble(StoredWeights):
    """Keep the weights at the ends of given epochs, or of equal cycles; Huang et al., 2017, arXiv:1704.00109.

    The last cycle's end is the end of the run. With a learning rate that restarts in every cycle, such as
    `lit_modules.cosine_cycles.CosineCycles`, the snapshots are the members of a snapshot ensemble, whose predictions
    are averaged. The callback itself only observes; tests and predictions of the trainer use the module's own weights.
    Snapshots stay in the processor's memory and are part of every checkpoint.

    Example::

        snapshots = SnapshotEnsemble(cycles=5)
        trainer = Trainer(max_epochs=200, callbacks=[snapshots])
        trainer.fit(module)
        members = snapshots.stored_weights(module)  # snapshot-1, after 40 epochs, to snapshot-5, after 200

    Args:
        cycles: number of equal cycles; the run's epochs are a multiple of it.
        epochs: instead, numbers of epochs after which to keep the weights, increasing; 1 is after the first.

    Raises:
        ValueError: not exactly one of the two is given, an argument is out of its range, the cycles do not divide
            the run's epochs, the run ends before the last of `epochs`, its length is not given in epochs, or what
            `StoredWeights` refuses.
    """

    observes_only = True
    provides = "snapshots"

    def __init__(self, cycles: int | None = None, epochs: Sequence[int] | None = None) -> None:
        super().__init__()
        if (cycles is None) == (epochs is None):
            raise ValueError(
                f"SnapshotEnsemble: give either cycles or epochs, not cycles={cycles} and epochs={epochs}."
            )
        if cycles is not None and cycles < 1:
            raise ValueError(f"SnapshotEnsemble: cycles must be at least 1, not {cycles}.")
        if epochs is not None and (not epochs or list(epochs) != sorted({max(1, epoch) for epoch in epochs})):
            raise ValueError(f"SnapshotEnsemble: epochs must be increasing numbers from 1 up, not {list(epochs)}.")
        self.cycles = cycles
        self.epochs = None if epochs is None else list(epochs)
        self._ends: list[int] = []
        self._kept: dict[int, dict[str, Tensor]] = {}  # by the number of epochs

    @property
    def state_key(self) -> str:
        return self._generate_state_key(cycles=self.cycles, epochs=self.epochs)

    def stored_weights(self, pl_module: L.LightningModule) -> dict[str, dict[str, Tensor]]:
        """Return the snapshots as `snapshot-1`, `snapshot-2` and so on, in the order of the epochs."""
        kept = sorted(self._kept.items())
        return {f"snapshot-{n}": complete_state(pl_module, weights) for n, (_, weights) in enumerate(kept, start=1)}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._kept = {}
            self._ends = [] if is_trial(trainer) else self.ends(trainer.max_epochs, trainer.max_steps)

    def ends(self, max_epochs: int | None, max_steps: int = -1) -> list[int]:
        """Return the numbers of epochs after which the weights are kept in a run of that length.

        Raises:
            ValueError: as for the class, of the run's length.
        """
        total = max_epochs
        if total is None or total < 1 or max_steps != -1:
            raise ValueError(
                f"SnapshotEnsemble: the run's length must be given in epochs, but max_epochs={total} and "
                f"max_steps={max_steps}. Set max_epochs alone."
            )
        if self.epochs is not None:
            if self.epochs[-1] > total:
                raise ValueError(f"SnapshotEnsemble: epochs={self.epochs}, but the run ends after {total} epochs.")
            return self.epochs
        cycles = self.cycles or 1
        if total % cycles:
            divisors = [number for number in range(1, total + 1) if total % number == 0]
            raise ValueError(
                f"SnapshotEnsemble: {cycles} cycles do not divide the run's {total} epochs. "
                f"Choose one of {', '.join(map(str, divisors))} cycles, or another max_epochs."
            )
        return [total // cycles * cycle for cycle in range(1, cycles + 1)]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._restored and trainer.is_last_batch:  # the checkpoint may be of an epoch's end, before the snapshot
            self._keep(trainer, pl_module, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._keep(trainer, pl_module, trainer.current_epoch + 1)

    @torch.no_grad()
    def _keep(self, trainer: L.Trainer, pl_module: L.LightningModule, epochs: int) -> None:
        if epochs in self._ends and epochs not in self._kept:
            buffers = {name: buffer.detach().clone() for name, buffer in trained_buffers(pl_module).items()}
            follow_first_rank(trainer, buffers.values())
            tensors = {**trained_parameters(pl_module), **buffers}
            self._kept[epochs] = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self._kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._kept = state_dict["kept"]
