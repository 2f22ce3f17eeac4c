"""Pruning: weights that are small after a part of the run are set to zero and stay there.

The masks live in the callback. The module's parameters keep their names and shapes and hold the zeros, so whatever
reads or stores them has the pruned network.
"""

import math
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from callbacks.ema import EMA
from callbacks.equal_average import EqualAverage
from callbacks.trained_tensors import trained_parameters

PRUNED_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class MagnitudePruning(L.Callback):
    """Set the smallest weights to zero once, after a part of the run; the rest of the run fine-tunes those left.

    Train, prune, fine-tune: Han et al., 2015, arXiv:1506.02626. That a large network pruned to the size of a small one
    beats the small one, trained directly, is the claim of Zhu and Gupta, 2017, arXiv:1710.01878. The weights of
    convolutions and linear layers are compared with each other over the whole network; biases and normalization stay.
    A zero is not a smaller tensor: neither time nor memory is saved unless something later makes use of the zeros.

    From then on the pruned weights are zero after every optimizer step, and have no part in the gradient's norm. They
    are zero in an `EMA` or `EqualAverage` too, also where it has seen them before. What other callbacks kept before the
    pruning, such as snapshots, stays whole. The number of parameters that are left is logged in every epoch as
    ``train/parameters_left``.

    Example::

        trainer = Trainer(max_epochs=200, callbacks=[MagnitudePruning(keep=0.25)])

    Args:
        keep: share of the module's trained parameters that is left, between 0 and 1; those that are never pruned are
            counted in it.
        start_fraction: part of the run's optimizer steps before the pruning, from 0 to below 1.

    Raises:
        ValueError: an argument is out of its range, the run has no known number of steps, or `keep` is not more than
            the parameters that are never pruned.
    """

    def __init__(self, keep: float, start_fraction: float = 0.5) -> None:
        problems = []
        if not 0 < keep < 1:
            problems.append(f"keep must be between 0 and 1, not {keep}")
        if not 0 <= start_fraction < 1:
            problems.append(f"start_fraction must be from 0 to below 1, a part of the run, not {start_fraction}")
        if problems:
            raise ValueError(f"MagnitudePruning: {'; '.join(problems)}.")
        self.keep = keep
        self.start_fraction = start_fraction
        self.masks: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []
        self._first_step = 0

    @property
    def state_key(self) -> str:
        return self._generate_state_key(keep=self.keep, start_fraction=self.start_fraction)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":  # a run that resumes loads its masks after this
            self.masks = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        steps = trainer.estimated_stepping_batches
        if not 0 < steps < math.inf:
            raise ValueError(
                f"MagnitudePruning: start_fraction is a part of the run, but the trainer says that it has {steps} "
                "steps. Set Trainer(max_epochs=...), or max_steps if the data has no length."
            )
        self._first_step = math.floor(self.start_fraction * steps + 1e-9)  # 0.29 * 100 is 28.999…
        choose_masks(pl_module, self.keep)  # so that a wrong `keep` is known before the training
        self.masks = {name: mask.to(pl_module.device) for name, mask in self.masks.items()}
        self._hooks = [
            optimizer.register_step_post_hook(lambda *_: apply_masks(trained_parameters(pl_module), self.masks))
            for optimizer in trainer.optimizers
        ]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.masks or trainer.global_step < self._first_step:
            return
        self.masks = choose_masks(pl_module, self.keep)
        apply_masks(trained_parameters(pl_module), self.masks)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EMA | EqualAverage):
                apply_masks(callback.evaluation_weights(), self.masks)
        total, left = self._count(pl_module)
        rank_zero_info(f"MagnitudePruning: {left:,} of {total:,} parameters are left.")

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        parameters = trained_parameters(pl_module).items()
        apply_masks({name: value.grad for name, value in parameters if value.grad is not None}, self.masks)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("train/parameters_left", float(self._count(pl_module)[1]))

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._leave()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._leave()

    def state_dict(self) -> dict[str, Any]:
        return {"masks": self.masks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.masks = state_dict["masks"]

    def _count(self, pl_module: L.LightningModule) -> tuple[int, int]:
        """Return how many trained parameters there are, and how many of them are not pruned."""
        total = sum(parameter.numel() for parameter in trained_parameters(pl_module).values())
        return total, total - sum(int((~mask).sum()) for mask in self.masks.values())

    def _leave(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self.masks = {name: mask.cpu() for name, mask in self.masks.items()}


@torch.no_grad()
def choose_masks(module: nn.Module, keep: float) -> dict[str, Tensor]:
    """Choose which weights are left: True for the largest magnitudes over all convolutions and linear layers.

    Args:
        module: whose trained parameters count.
        keep: share of all of them that is left, rounded down; those of other layers, and biases, are in it.

    Returns:
        A mask of each weight that can be pruned, by its name in the module.

    Raises:
        ValueError: the parameters that cannot be pruned are that many or more.
    """
    trained = trained_parameters(module)
    weights = {id(layer.weight) for layer in module.modules() if isinstance(layer, PRUNED_LAYERS)}
    prunable = {name: parameter for name, parameter in trained.items() if id(parameter) in weights}
    total = sum(parameter.numel() for parameter in trained.values())
    whole = total - sum(parameter.numel() for parameter in prunable.values())
    left = math.floor(keep * total) - whole
    if left < 1:
        raise ValueError(
            f"MagnitudePruning: keep={keep} leaves {math.floor(keep * total):,} of {total:,} trained parameters, but "
            f"{whole:,} are biases, normalization and the like, which stay. Set keep to more than {whole / total:.3g}."
        )
    magnitudes = torch.cat([parameter.flatten().abs() for parameter in prunable.values()])
    chosen = torch.zeros_like(magnitudes, dtype=torch.bool)
    chosen[magnitudes.topk(left).indices] = True
    parts = chosen.split([parameter.numel() for parameter in prunable.values()])
    return {name: part.view(prunable[name].shape) for name, part in zip(prunable, parts, strict=True)}


@torch.no_grad()
def apply_masks(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    """Set to zero, in place, what the masks of the same names do not keep."""
    for name in masks.keys() & tensors.keys():
        tensors[name].masked_fill_(~masks[name].to(tensors[name].device), 0)
