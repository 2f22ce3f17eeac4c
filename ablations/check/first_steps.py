"""What happens in the first steps of a training."""

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer


@dataclass(frozen=True)
class FirstSteps:
    """What happened in the first steps of a training.

    Args:
        losses: the training loss of each batch; the last may be no longer finite.
        gradient_norms: the norm of all gradients together before each step, before any clipping.
        channels: mean and standard deviation of each channel of the images that the module saw; empty if a batch does
            not begin with images ``(N, C, H, W)``.
        untouched: trainable parameters whose gradient was zero, or missing, in every step.
        forgotten: trainable parameters that are in no group of the optimizer.
        parameters: the number of trainable parameters, as tensors.
    """

    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    channels: tuple[tuple[float, float], ...]
    untouched: tuple[str, ...]
    forgotten: tuple[str, ...]
    parameters: int


def read_loss(trainer: L.Trainer, outputs: Any) -> list[float]:
    """Return the loss of a batch, as `on_train_batch_end` gets it; none if the module skipped the batch."""
    if not outputs or outputs.get("loss") is None:
        return []
    return [float(outputs["loss"]) * trainer.accumulate_grad_batches]  # Lightning divides it


class FirstStepsRecorder(L.Callback):
    """Watch a fit."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradient_norms: list[float] = []
        self._pixels = 0
        self._sums: Tensor | None = None  # of the values and their squares, by channel
        self._touched: set[str] = set()
        self._trained: dict[str, int] = {}
        self._held: set[int] = set()

    def record(self) -> FirstSteps:
        """Return what was seen."""
        return FirstSteps(
            losses=tuple(self.losses),
            gradient_norms=tuple(self.gradient_norms),
            channels=self._channels(),
            untouched=tuple(name for name in self._trained if name not in self._touched),
            forgotten=tuple(name for name, identity in self._trained.items() if identity not in self._held),
            parameters=len(self._trained),
        )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        images = batch[0] if isinstance(batch, list | tuple) and batch else batch
        if isinstance(images, Tensor) and images.ndim == 4:
            values = images.float()
            sums = torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))]).cpu().double()
            self._sums = sums if self._sums is None else self._sums + sums
            self._pixels += values[:, 0].numel()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        trained = {name: tensor for name, tensor in pl_module.named_parameters() if tensor.requires_grad}
        gradients = {name: tensor.grad for name, tensor in trained.items() if tensor.grad is not None}
        norms = torch.stack([gradient.float().norm() for gradient in gradients.values()] or [torch.zeros(())])
        self.gradient_norms.append(float(norms.norm()))
        self._touched |= {name for name, gradient in gradients.items() if gradient.any()}
        self._trained = {name: id(tensor) for name, tensor in trained.items()}
        self._held |= {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses += read_loss(trainer, outputs)

    def _channels(self) -> tuple[tuple[float, float], ...]:
        if self._sums is None:
            return ()
        mean, square = self._sums / self._pixels
        sd = (square - mean.square()).clamp_min(0).sqrt()
        return tuple(zip(mean.tolist(), sd.tolist(), strict=True))
