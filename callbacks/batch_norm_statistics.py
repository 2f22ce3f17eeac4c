"""Batch normalization's running statistics, computed anew for given weights.

Nothing is trained: no gradients, no optimizer step, no training step. Only the batch normalization layers are in
training mode meanwhile, so that dropout and the like act as they will when the statistics are used.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import CombinedLoader, rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from callbacks.stored_weights import StoredWeights
from callbacks.trained_tensors import complete_state, frozen_parts


@torch.no_grad()
def recompute_batch_norm(
    module: nn.Module,
    batches: Iterable[Any],
    forward: Callable[[Any], Any] | None = None,
    layers: Iterable[_BatchNorm] | None = None,
) -> int:
    """Replace the running statistics by the mean of those of the batches, as `torch.optim.swa_utils.update_bn` does.

    Unlike there, no other layer is in training mode, and an error leaves the module as it was.

    Args:
        module: the module; its mode stays as it is.
        batches: what to compute from, once through.
        forward: runs the module on a batch; by default on the batch itself or on its first element.
        layers: the layers to compute for; by default every batch normalization with running statistics.

    Returns:
        The number of batches.

    Raises:
        ValueError: there are no batches, or the default does not know what in a batch is the input.
    """
    chosen = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)] if layers is None else list(layers)
    chosen = [layer for layer in chosen if layer.running_mean is not None]
    modes = {part: part.training for part in module.modules()}
    momenta = {layer: layer.momentum for layer in chosen}
    before = {buffer: buffer.clone() for layer in chosen for buffer in layer.buffers(recurse=False)}
    count = 0
    try:
        for part in modes:
            part.training = part in momenta  # directly: modules may override `train`
        for layer in chosen:
            layer.reset_running_stats()
            layer.momentum = None  # a mean over all batches
        for batch in batches if chosen else ():
            (forward or _make_forward(module))(batch)
            count += 1
        if chosen and not count:
            raise ValueError("recompute_batch_norm: there are no batches to compute the statistics from.")
    except BaseException:
        for buffer, value in before.items():
            buffer.copy_(value)
        raise
    finally:
        for part, training in modes.items():
            part.training = training
        for layer, momentum in momenta.items():
            layer.momentum = momentum
    return count


def _make_forward(module: nn.Module) -> Callable[[Any], Any]:
    def forward(batch: Any) -> Any:
        inputs = batch[0] if isinstance(batch, list | tuple) else batch
        if not isinstance(inputs, Tensor):
            raise ValueError(
                f"recompute_batch_norm: a batch is a {type(batch).__name__}, neither a tensor nor a sequence that "
                "begins with one. Pass `forward`, which says how the module takes it."
            )
        return module(inputs)

    return forward


def training_statistics(
    trainer: L.Trainer, pl_module: L.LightningModule, batches: int | None = None
) -> dict[str, Tensor]:
    """Compute, within a fit, the statistics that the module's weights give on the training data.

    The batches are loaded and transformed as in training, in an epoch's number at most, and the random state is put
    back, that of loaders too. Under DDP each process sees its share, and all get the mean. The module stays as it is.

    Args:
        trainer: the fitting trainer.
        pl_module: the module. Its `forward` takes a batch or the first element of one.
        batches: use no more than these.

    Returns:
        Running means, variances and counters by the names of `named_buffers`, of the layers that are not frozen.
    """
    frozen = frozen_parts(pl_module)
    layers = [layer for layer in pl_module.modules() if isinstance(layer, _BatchNorm) and layer not in frozen]
    buffers = {id(buffer) for layer in layers for buffer in layer.buffers(recurse=False)}
    ours = {name: buffer for name, buffer in pl_module.named_buffers() if id(buffer) in buffers}
    if not ours:
        return {}
    with torch.inference_mode(False), torch.no_grad():  # validation runs in inference mode
        before = [buffer.clone() for buffer in ours.values()]
        try:
            with trainer.precision_plugin.forward_context():
                recompute_batch_norm(pl_module, _training_batches(trainer, pl_module, batches), layers=layers)
            for buffer in ours.values():
                if trainer.world_size > 1 and buffer.is_floating_point():
                    buffer.copy_(trainer.strategy.reduce(buffer, reduce_op="mean"))
            return {name: buffer.clone() for name, buffer in ours.items()}
        finally:
            for buffer, value in zip(ours.values(), before, strict=True):
                buffer.copy_(value)


def _training_batches(trainer: L.Trainer, pl_module: L.LightningModule, batches: int | None) -> Iterator[Any]:
    """Yield the training batches as the module sees them."""
    loaders = trainer.train_dataloader
    stream = CombinedLoader(loaders, "max_size_cycle")
    length = trainer.num_training_batches
    if length == float("inf"):  # the data has no length: not more than were trained on in this epoch
        length = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    limit = int(length) if batches is None else min(batches, int(length))
    stage = trainer.state.stage
    trainer.training = True  # datamodules look there to know how to transform a batch
    try:
        with isolate_rng(), _isolated_generators(stream.flattened):
            for batch, _, _ in itertools.islice(iter(stream), limit):
                batch = trainer.precision_plugin.convert_input(batch)
                batch = pl_module._on_before_batch_transfer(batch, dataloader_idx=0)
                yield trainer.strategy.batch_to_device(batch, dataloader_idx=0)
    finally:
        trainer.state.stage = stage


@contextmanager
def _isolated_generators(loaders: Iterable[Any]) -> Iterator[None]:
    """Put the loaders' own generators back at the end, on which the order of the next epoch may depend."""
    found = []
    for loader in loaders:
        if isinstance(loader, DataLoader):
            samplers = (loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))
            found += [getattr(owner, "generator", None) for owner in (loader, *samplers)]
    generators = {id(generator): generator for generator in found if isinstance(generator, torch.Generator)}
    states = {key: generator.get_state() for key, generator in generators.items()}
    try:
        yield
    finally:
        for key, generator in generators.items():
            generator.set_state(states[key])


def is_last_epoch(trainer: L.Trainer) -> bool:
    """Whether, at an epoch's end, the trainer's settings say that the run ends with it."""
    by_epochs = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
    return by_epochs or 0 <= trainer.max_steps <= trainer.global_step


class BatchNormStatistics(StoredWeights):
    """Compute batch normalization's statistics for the final weights; "precise BN", Wu & Johnson, arXiv:2105.07576.

    While training, the running statistics lag behind the weights and follow the last batches. At the end of the run
    this callback passes over the training data once more and takes the mean over all batches. It only observes: the
    module keeps its running statistics; tests and predictions use the computed ones, and `stored_weights` returns them
    with the module's weights. Layers that are frozen at the end keep what they have; if all are, a warning says so.

    Example::

        statistics = BatchNormStatistics()
        trainer = Trainer(callbacks=[statistics])
        trainer.fit(module)
        trainer.test(module)

    Args:
        batches: number of training batches to compute from; by default an epoch.

    Raises:
        ValueError: `batches` is not positive, the module has no batch normalization, or what `StoredWeights` refuses.
    """

    observes_only = True
    provides = "batch_norm"

    def __init__(self, batches: int | None = None) -> None:
        super().__init__()
        if batches is not None and batches < 1:
            raise ValueError(f"BatchNormStatistics: batches must be at least 1, not {batches}.")
        self.batches = batches
        self._statistics: dict[str, Tensor] = {}
        self._computed_at = -1

    def stored_weights(self, pl_module: L.LightningModule) -> dict[str, dict[str, Tensor]]:
        """Return the final weights with the computed statistics as `batch_norm`."""
        return {"batch_norm": complete_state(pl_module, self._statistics)} if self._computed_at >= 0 else {}

    def evaluation_weights(self) -> Mapping[str, Tensor]:
        return self._statistics

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._statistics, self._computed_at = {}, -1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not any(isinstance(part, _BatchNorm) and part.track_running_stats for part in pl_module.modules()):
            raise ValueError(
                f"BatchNormStatistics: {type(pl_module).__name__} has no batch normalization with running statistics. "
                "Leave the callback out."
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if is_last_epoch(trainer):  # before the last checkpoint is saved
            self._compute(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._compute(trainer, pl_module)
        if not self._statistics:
            rank_zero_warn(
                "BatchNormStatistics: every batch normalization was frozen at the end of the run, so nothing was "
                "computed: its weights are the last ones. Leave the callback out, or release the layers earlier."
            )

    def _compute(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._computed_at != trainer.global_step:
            self._statistics = training_statistics(trainer, pl_module, self.batches)
            self._computed_at = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        return {"statistics": self._statistics, "computed_at": self._computed_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._statistics = state_dict["statistics"]
        self._computed_at = state_dict["computed_at"]
