"""The learning-rate range test: raise the rate through a short fit, and see where the loss falls fastest.

A fit with `LRFinder` is thrown away. Train with the rate that it suggests from a new module and a new trainer, best in
another process: schedules remember the rates that they began with, and the search has used up random numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import _TunerExitException
from torch import Tensor
from torch.optim import Optimizer

_BANDWIDTH = 0.25
"""Standard deviation of the smoothing window in decades of the rate."""

_LEAST_POINTS = 3
"""Standard deviation of the smoothing window in points, where these lie too far apart for `_BANDWIDTH`."""

_LEAST_LOSSES = 10
"""The shortest curve that a rate is suggested from."""

_DECAY = 0.9
"""Of the moving average that says whether the loss diverges."""


@dataclass(frozen=True)
class LRSearch:
    """What a range test found.

    Args:
        rates: the learning rate of each optimizer step, of the first parameter group.
        losses: the training loss of each step, measured before it; all are finite.
        suggestion: the rate to train with; None if the loss did not fall.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float | None

    def plot(self, path: str | Path) -> None:
        """Draw the losses over the rates, the smoothed curve and the suggestion, into an image file."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and seldom needed
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="training loss")
        axes.plot(self.rates, self.losses, ".", color="0.7", label="each step")
        if len(self.rates) > 1:
            level, _ = _smooth(np.array(self.rates), _clip(np.array(self.losses)))
            axes.plot(self.rates, level, label="smoothed")
        if self.suggestion is not None:
            axes.axvline(self.suggestion, color="C1", label=f"suggested: {self.suggestion:.2g}")
        if self.losses:
            low, high = min(self.losses), _ceiling(np.array(self.losses))
            margin = 0.1 * (high - low) or 1.0
            axes.set_ylim(low - margin, high + margin)  # where it diverges, the loss would flatten all the rest
        axes.legend()
        figure.savefig(path)


class LRFinder(L.Callback):
    """Raise the learning rate geometrically from `min_lr` to `max_lr` in a fit that ends after `steps` optimizer steps.

    The range test of Smith, 2017, arXiv:1506.01186, section 3.3. The rate is set before each optimizer step, whatever
    the module's schedule or a warm-up says; parameter groups keep the ratio of their initial rates to the first one's.
    The fit ends early when the loss is no longer finite, or when its moving average lies above its lowest value by more
    than `divergence` times the first loss. It ends within its epoch, without validation. Nothing is restored:
    throw module, trainer and callback away. A search that was interrupted starts anew.

    Losses are averaged over accumulated batches and over processes. The launchers `ddp_spawn` and `ddp_notebook` fit in
    processes of their own and do not bring the result back.

    Example::

        finder = LRFinder()
        Trainer(max_epochs=10, callbacks=[finder]).fit(module)
        finder.plot("lr_search.png")
        finder.suggestion  # for a new module and a new trainer

    Args:
        min_lr: rate of the first step, of the first parameter group.
        max_lr: rate of the last step.
        steps: number of optimizer steps.
        divergence: how far the loss may rise, as a multiple of the first loss.

    Attributes:
        rates: the rate of each step so far.
        losses: the loss of each step so far, measured before the step.
        initial_lr: the rate of the first parameter group before the search.

    Raises:
        ValueError: an argument is out of its range, the module optimizes manually, the first parameter group has no
            rate, a strategy shards the module, the fit starts from a checkpoint, or the whole run is shorter than
            `steps`.
    """

    def __init__(self, min_lr: float = 1e-5, max_lr: float = 10.0, steps: int = 100, divergence: float = 4.0) -> None:
        problems = []
        if not 0 < min_lr < max_lr < math.inf:
            problems.append(f"min_lr must be positive and below max_lr, not {min_lr} and {max_lr}")
        if steps < _LEAST_LOSSES:
            problems.append(f"steps must be at least {_LEAST_LOSSES}, not {steps}")
        if not divergence > 0:
            problems.append(f"divergence must be positive, not {divergence}")
        if problems:
            raise ValueError(f"LRFinder: {'; '.join(problems)}.")
        self.min_lr = min_lr
        self.max_lr = max_lr
        self.steps = steps
        self.divergence = divergence
        self._reset()

    def _reset(self) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.initial_lr = math.nan
        self._ratios: list[float] = []
        self._batch_losses: list[Tensor] = []  # of the batches since the last step
        self._global_step = 0
        self._average = 0.0
        self._lowest = math.inf
        self._hook: Any = None

    @property
    def suggestion(self) -> float:
        """The rate to train with, as `suggest_lr` finds it.

        Raises:
            ValueError: the loss did not fall, or there are too few losses.
        """
        return suggest_lr(self.rates, self.losses)

    @property
    def search(self) -> LRSearch:
        """What was found, as a plain record."""
        try:
            suggestion = self.suggestion
        except ValueError:
            suggestion = None
        return LRSearch(tuple(self.rates), tuple(self.losses), suggestion)

    @rank_zero_only
    def plot(self, path: str | Path) -> None:
        """Draw what was found into an image file."""
        self.search.plot(path)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._reset()
        if not pl_module.automatic_optimization:
            raise ValueError(
                f"LRFinder: {type(pl_module).__name__} optimizes manually, as modules with several optimizers do, so "
                "the rate of its steps cannot be taken over. Search with a module that optimizes automatically."
            )
        if isinstance(trainer.strategy, FSDPStrategy | DeepSpeedStrategy | ModelParallelStrategy):
            raise ValueError(
                f"LRFinder: {type(trainer.strategy).__name__} shards the module, for which the search was never "
                "tested. Use a strategy that keeps the module whole, such as 'ddp'."
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.ckpt_path is not None:
            raise ValueError(
                f"LRFinder: the fit would go on from {trainer.ckpt_path}, with its optimizer and its step count. To "
                "search from trained weights, load them into the module and give no ckpt_path."
            )
        total = trainer.estimated_stepping_batches
        if total < self.steps:
            raise ValueError(
                f"LRFinder: the search takes {self.steps} optimizer steps, but the whole run has only {total:g}. Train "
                f"for more epochs, or set steps to at most {total:g}."
            )
        rates = [float(group.get("initial_lr", group["lr"])) for group in trainer.optimizers[0].param_groups]
        if rates[0] <= 0:
            raise ValueError(
                f"LRFinder: the first parameter group has the rate {rates[0]}, so the other groups have no ratio to "
                "it. Give it a positive rate, or put another group first."
            )
        self.initial_lr = rates[0]
        self._ratios = [rate / rates[0] for rate in rates]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._hook is None:  # after the hooks that others, such as a warm-up, register at the start: the last wins
            self._hook = trainer.optimizers[0].register_step_pre_hook(self._before_step)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._set_rate(trainer.optimizers[0])  # for whoever reads the rate here

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._set_rate(optimizer)

    def _set_rate(self, optimizer: Optimizer) -> None:
        rate = self._rate(len(self.losses))
        for group, ratio in zip(optimizer.param_groups, self._ratios, strict=True):
            group["lr"] = rate * ratio

    def _rate(self, step: int) -> float:
        return self.min_lr * (self.max_lr / self.min_lr) ** (step / (self.steps - 1))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs and outputs.get("loss") is not None:
            self._batch_losses.append(outputs["loss"].float() * trainer.accumulate_grad_batches)  # Lightning divides it
        if trainer.global_step == self._global_step:
            return  # gradients are being accumulated
        self._global_step = trainer.global_step
        if not self._batch_losses:
            return  # the module skipped every batch of this step
        mean = torch.stack(self._batch_losses).mean()
        self._batch_losses = []
        self._record(float(trainer.strategy.reduce(mean, reduce_op="mean")))

    def _record(self, loss: float) -> None:
        """Note the loss of a step, and leave the fit after the last one."""
        if math.isfinite(loss):
            self.rates.append(self._rate(len(self.losses)))
            self.losses.append(loss)
        if not math.isfinite(loss) or self._is_diverging() or len(self.losses) == self.steps:
            # Lightning ends the fit at once and without an error. `should_stop` would validate and end the epoch, where
            # modules raise if its loss is not finite, and `min_epochs` would overrule it.
            raise _TunerExitException

    def _is_diverging(self) -> bool:
        self._average = _DECAY * self._average + (1 - _DECAY) * self.losses[-1]
        smoothed = self._average / (1 - _DECAY ** len(self.losses))  # the average began at 0, which had no say
        self._lowest = min(self._lowest, smoothed)
        first = self.losses[0]
        return smoothed - self._lowest > self.divergence * max(abs(first), first - self._lowest)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


def suggest_lr(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the rate at which the loss falls fastest over the logarithm of the rate.

    The rule that fastai calls `steep`, made robust. Level and slope of the curve at each rate are those of a straight
    line, fitted to the losses around it with Gaussian weights of a quarter of a decade, at least three points: a line
    has no bias where the curve begins and ends. The curve counts up to its first loss that is not finite. Losses that
    lie further above the first ones than the lowest lies below them are cut off there, so that the divergent end does
    not outweigh its neighbours. The suggestion is the steepest point before the lowest.

    It lies below the largest rate that is stable: on a quadratic of curvature c, where that is 2 / c, by a factor of 5
    to 100 for searches of 30 to 300 steps over seven decades, since more steps learn more at low rates. With noise of
    up to 5 % of the loss it stays within a factor of 2 of that without.

    Args:
        rates: positive and rising.
        losses: one a rate.

    Raises:
        ValueError: there are less than 10 finite losses at the start, or the smoothed curve never falls below its start
            by more than three standard deviations of the noise.
    """
    curve = np.asarray(losses, dtype=np.float64)
    finite = np.isfinite(curve)
    count = len(curve) if finite.all() else int(finite.argmin())
    if count < _LEAST_LOSSES:
        raise ValueError(
            f"LRFinder: only {count} losses are finite from the start on, and a suggestion needs {_LEAST_LOSSES}. "
            "Search from a lower min_lr, or in more steps."
        )
    axis, curve = np.asarray(rates, dtype=np.float64)[:count], curve[:count]
    level, slope = _smooth(axis, _clip(curve))
    lowest = int(level.argmin())
    descent, noise = level[: lowest + 1].max() - level[lowest], _noise(curve)
    if descent <= max(3 * noise, 1e-4 * abs(float(level[0]))):
        raise ValueError(
            f"LRFinder: the loss does not fall anywhere from {axis[0]:.2g} to {axis[-1]:.2g}: from {level[0]:.4g} it "
            f"comes down by {descent:.2g}, with a noise of {noise:.2g}. Search in another range or in more steps; "
            "if it never falls, the module does not learn."
        )
    return float(axis[: lowest + 1][slope[: lowest + 1].argmin()])


def _smooth(rates: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return level and slope by decade of the straight lines fitted around each point, ``(N,)`` each."""
    decades = np.log10(rates)
    bandwidth = max(_BANDWIDTH, _LEAST_POINTS * float(np.median(np.diff(decades))))
    distance = decades[None, :] - decades[:, None]
    weight = np.exp(-0.5 * (distance / bandwidth) ** 2)
    total, first, second = weight.sum(1), (weight * distance).sum(1), (weight * distance**2).sum(1)
    value, moment = weight @ losses, (weight * distance) @ losses
    determinant = total * second - first**2
    return (second * value - first * moment) / determinant, (total * moment - first * value) / determinant


def _clip(losses: np.ndarray) -> np.ndarray:
    return np.minimum(losses, _ceiling(losses))


def _ceiling(losses: np.ndarray) -> float:
    """Return the loss as far above the first tenth as the lowest lies below it."""
    start = float(np.median(losses[: max(3, len(losses) // 10)]))
    return start + (start - float(losses.min()))


def _noise(losses: np.ndarray) -> float:
    """Estimate the standard deviation of the noise from second differences, which hardly see a smooth curve."""
    return float(1.4826 * np.median(np.abs(np.diff(losses, n=2))) / math.sqrt(6))
