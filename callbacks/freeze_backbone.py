"""Freezing of parts of a module, for some of a run or for all of it.

Frozen is what `requires_grad` says: the optimizer passes over a parameter without a gradient, with weight decay and
momentum. Who is frozen when follows from the trainer's counters, so a run that resumes needs no state of the callback.
What is released later is frozen only once optimizer and schedule have taken it in; DDP, which learns when it is made
what there is to synchronize, is made anew whenever that changes.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import lightning as L
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from callbacks.stored_weights import is_trial


class FreezeBackbone(L.Callback):
    """Train without some of the parameters, until an epoch, for a fraction of the run, or for the whole of it.

    A frozen parameter keeps its value, takes no weight decay and gathers no momentum; it has its place in optimizer and
    schedule from the start if it is released later, and none if it never is. Freezing the lower layers: Yosinski et
    al., 2014, arXiv:1411.1792; all but the head, then everything: Kumar et al., 2022, arXiv:2202.10054. After the fit
    everything can be trained again. Lightning's `BackboneFinetuning` (2.6.6) unfreezes into a new parameter group, at
    which schedulers fail and which DDP does not synchronize.

    Example::

        trainer = Trainer(callbacks=[FreezeBackbone(all_but=["network.fc"], until_epoch=5)])
        trainer = Trainer(callbacks=[FreezeBackbone(["network.conv1", "network.layer1"])])

    Args:
        parts: what to freeze: names of submodules and parameters of the module, with `*` for any characters; by
            default everything.
        all_but: what of that is trained all the same.
        until_epoch: the first epoch, counted from 0, in which everything is trained; by default none is.
        until_fraction: part of the run's optimizer steps, between 0 and 1, after which everything is trained, instead.
        freeze_statistics: keep the running statistics of the normalization layers in frozen parts, and normalize by
            them; otherwise these layers go on normalizing by the batch, and their statistics move.

    Raises:
        ValueError: a name that nothing has, nothing to freeze or nothing left to train, both ends or an end outside of
            the run, a fraction of a run without a known number of steps, or a strategy that shards the module.
    """

    def __init__(
        self,
        parts: Sequence[str] = ("*",),
        all_but: Sequence[str] = (),
        until_epoch: int | None = None,
        until_fraction: float | None = None,
        freeze_statistics: bool = True,
    ) -> None:
        problems = []
        if until_epoch is not None and until_fraction is not None:
            problems.append(f"until_epoch={until_epoch} and until_fraction={until_fraction} are two ends; give one")
        if until_epoch is not None and until_epoch < 1:
            problems.append(f"until_epoch must be at least 1, not {until_epoch}")
        if until_fraction is not None and not 0 < until_fraction < 1:
            problems.append(f"until_fraction must be between 0 and 1, not {until_fraction}")
        if problems:
            raise ValueError(f"FreezeBackbone: {'; '.join(problems)}.")
        self.parts = list(parts)
        self.all_but = list(all_but)
        self.until_epoch = until_epoch
        self.until_fraction = until_fraction
        self.freeze_statistics = freeze_statistics
        self._until_step: int | None = None
        self._parameters: list[nn.Parameter] = []  # what this callback has frozen
        self._modes: dict[nn.Module, bool] = {}  # normalization layers that it keeps still, and how they were before

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if isinstance(trainer.strategy, FSDPStrategy | DeepSpeedStrategy | ModelParallelStrategy):
            raise ValueError(
                f"FreezeBackbone: {type(trainer.strategy).__name__} shards the module, and what is frozen would differ "
                "from what it holds. Use a strategy that keeps the module whole, such as 'ddp'."
            )
        self._until_step = None
        self._check_names(pl_module)
        if self._is_for_good:
            self._freeze(pl_module)  # before optimizer and DDP are made, which then have nothing to do with it

    @property
    def _is_for_good(self) -> bool:
        return self.until_epoch is None and self.until_fraction is None

    def _check_names(self, pl_module: L.LightningModule) -> None:
        """Refuse names that nothing has, and freezing nothing or everything."""
        parameters = dict(pl_module.named_parameters())
        tensors = [*parameters, *(name for name, _ in pl_module.named_buffers())]
        kind = type(pl_module).__name__
        for pattern in [*self.parts, *self.all_but]:
            if not any(_matches(name, [pattern]) for name in tensors):
                there = ", ".join(sorted({".".join(name.split(".")[:2]) for name in parameters}))
                raise ValueError(f"FreezeBackbone: {kind} has nothing named {pattern!r}. It has: {there}.")
        trained = [name for name, parameter in parameters.items() if parameter.requires_grad]
        frozen = [name for name in trained if self._names(name)]
        if len(frozen) in (0, len(trained)):
            raise ValueError(
                f"FreezeBackbone: parts={self.parts} without all_but={self.all_but} are {len(frozen)} of the "
                f"{len(trained)} parameters of {kind} that are trained. Name some of them, not all."
            )

    def _names(self, name: str) -> bool:
        """Return whether a tensor of the module is among what is to be frozen."""
        return _matches(name, self.parts) and not _matches(name, self.all_but)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._is_for_good:
            self._freeze(pl_module)
            _renew_ddp(trainer, pl_module)
        if self.freeze_statistics:  # here: synchronized layers have taken the others' places by now
            layers = {name: layer for name, layer in pl_module.named_modules() if isinstance(layer, _NormBase)}
            self._modes = {
                layer: layer.training
                for name, layer in layers.items()
                if layer.running_mean is not None and self._names(f"{name}.running_mean")
            }

    def _freeze(self, pl_module: L.LightningModule) -> None:
        named = [parameter for name, parameter in pl_module.named_parameters() if self._names(name)]
        self._parameters = [parameter for parameter in named if parameter.requires_grad]
        for parameter in self._parameters:
            parameter.requires_grad_(False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.until_fraction is not None:
            self._until_step = self._count_frozen_steps(trainer, pl_module, self.until_fraction)
        last = trainer.max_epochs
        if (
            self.until_epoch is not None
            and last not in (None, -1)
            and self.until_epoch >= last
            and not is_trial(trainer)
        ):
            raise ValueError(
                f"FreezeBackbone: until_epoch={self.until_epoch}, but the run has only {last} epochs, counted from 0. "
                "Choose an earlier one, or leave it out to freeze for the whole run."
            )
        self._release_if_due(trainer, pl_module)

    def _count_frozen_steps(self, trainer: L.Trainer, pl_module: L.LightningModule, fraction: float) -> int:
        total = trainer.estimated_stepping_batches if pl_module.automatic_optimization else -1
        if not 0 < total < float("inf"):
            raise ValueError(
                f"FreezeBackbone: until_fraction={fraction} of a run whose number of optimizer steps is unknown. Set "
                "max_epochs, or max_steps if the data has no length; or use until_epoch."
            )
        return max(1, int(fraction * total + 1e-9))  # 0.29 * 100 is 28.999…

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._release_if_due(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for layer in self._modes:
            layer.training = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._release_if_due(trainer, pl_module)

    def _release_if_due(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        by_epoch = self.until_epoch is not None and trainer.current_epoch >= self.until_epoch
        by_step = self._until_step is not None and trainer.global_step >= self._until_step
        if self._parameters and (by_epoch or by_step):
            self._release()
            _renew_ddp(trainer, pl_module)

    def _release(self) -> None:
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        for layer, training in self._modes.items():
            layer.training = training
        self._parameters, self._modes = [], {}

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._release()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._release()


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a pattern names the tensor, or a part of the module that holds it."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in patterns)


def _renew_ddp(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """Wrap the module in DDP anew, which from now on waits for the gradients of what is trained now."""
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy.model = pl_module
        trainer.strategy.configure_ddp()
