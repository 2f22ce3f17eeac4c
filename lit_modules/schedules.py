"""Learning-rate schedules that take the optimizer and `total_steps`, which :class:`lit_modules.LitClassifier` fills in.

Torch's own schedules fit as they are, those that go by epochs included; here is only what torch lacks.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR, ReduceLROnPlateau


class FractionalMultiStepLR(MultiStepLR):
    """Multiplies the learning rate by `gamma` at fractions of the run, so that a longer run needs no new milestones.

    The defaults are those of He et al. 2018 (arXiv:1812.01187): after 30, 60 and 90 of 120 epochs.

    Example::

        FractionalMultiStepLR(optimizer, total_steps=1000, milestones=[0.5, 0.75])  # at steps 500 and 750

    Args:
        optimizer: The optimizer.
        total_steps: Steps of the whole run. One call of :meth:`step` is one step.
        milestones: Fractions of the run, each above 0 and below 1, increasing. Rounded to the nearest step.
        gamma: Factor at each milestone.

    Raises:
        ValueError: If the milestones are not increasing fractions.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        milestones: Sequence[float] = (0.25, 0.5, 0.75),
        gamma: float = 0.1,
    ) -> None:
        fractions = list(milestones)
        increasing = all(first < second for first, second in itertools.pairwise(fractions))
        if not increasing or not all(0 < fraction < 1 for fraction in fractions):
            raise ValueError(
                f"FractionalMultiStepLR: milestones is {fractions}; it must list increasing fractions of the run, each "
                f"above 0 and below 1. For steps or epochs, divide by the length of the run."
            )
        super().__init__(optimizer, [round(fraction * total_steps) for fraction in fractions], gamma)


class OneCycle(OneCycleLR):
    """Lets the rate climb to a peak and fall to almost nothing, and the momentum fall and climb against it (Smith and
    Topin 2017, arXiv:1708.07120). Torch's ``OneCycleLR``, whose peak is here a multiple of each group's own rate.

    Example::

        OneCycle(optimizer, total_steps=1000)  # the optimizer's own rate is the peak, at step 299

    Args:
        optimizer: The optimizer. It has a momentum, or betas, whose first then stands for it.
        total_steps: Steps of the whole run. One call of :meth:`step` is one step.
        max_lr_factor: The peak, as a multiple of the rate of each parameter group.
        start_fraction: Fraction of the run in which the rate climbs.
        start_divisor: The peak is so many times the first rate.
        final_divisor: The first rate is so many times the last one.
        base_momentum: Momentum at the peak.
        max_momentum: Momentum at both ends.

    Raises:
        ValueError: If the peak is not positive, or the climb or the fall is no longer than a step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        max_lr_factor: float = 1.0,
        start_fraction: float = 0.3,
        start_divisor: float = 25.0,
        final_divisor: float = 1e4,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
    ) -> None:
        if not max_lr_factor > 0:
            raise ValueError(f"OneCycle: max_lr_factor must be positive, not {max_lr_factor}.")
        if not 1 < start_fraction * total_steps < total_steps:
            raise ValueError(
                f"OneCycle: start_fraction is {start_fraction}, so the rate would climb for "
                f"{start_fraction * total_steps:g} of the run's {total_steps} optimizer steps; it must climb for more "
                f"than one and less than all. Choose another fraction, or train longer."
            )
        super().__init__(
            optimizer,
            [group["lr"] * max_lr_factor for group in optimizer.param_groups],
            total_steps,
            pct_start=float(start_fraction),
            div_factor=start_divisor,
            final_div_factor=final_divisor,
            base_momentum=base_momentum,
            max_momentum=max_momentum,
        )


class ExponentialDecay(LRScheduler):
    """Multiplies the learning rate by the same factor in every step: ``lr * final_fraction ** (t / total_steps)``.

    Example::

        ExponentialDecay(optimizer, total_steps=1000, final_fraction=0.01)  # a tenth of the rate at step 500

    Args:
        optimizer: The optimizer.
        total_steps: Steps of the whole run. One call of :meth:`step` is one step.
        final_fraction: What is left of the rate at the end of the run, above 0 and at most 1.

    Raises:
        ValueError: If the fraction is not one.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, final_fraction: float = 0.001) -> None:
        _check_final_fraction("ExponentialDecay", final_fraction)
        self.total_steps, self.final_fraction = total_steps, final_fraction
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        factor = self.final_fraction ** (self.last_epoch / self.total_steps)
        return [rate * factor for rate in self.base_lrs]


class InverseTimeDecay(LRScheduler):
    """Divides the learning rate by a number that grows linearly: ``lr / (1 + k * t)`` (Robbins and Monro 1951).

    Example::

        InverseTimeDecay(optimizer, total_steps=1000, final_fraction=0.2)  # k = 0.004; a third of the rate at step 500

    Args:
        optimizer: The optimizer.
        total_steps: Steps of the whole run. One call of :meth:`step` is one step.
        final_fraction: What is left of the rate at the end of the run, above 0 and at most 1. It decides k.

    Raises:
        ValueError: If the fraction is not one.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, final_fraction: float = 0.05) -> None:
        _check_final_fraction("InverseTimeDecay", final_fraction)
        self.total_steps, self.final_fraction = total_steps, final_fraction
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        k = (1 / self.final_fraction - 1) / self.total_steps
        return [rate / (1 + k * self.last_epoch) for rate in self.base_lrs]


class ReduceOnPlateau(ReduceLROnPlateau):
    """Multiplies the learning rate by `factor` when a metric stalls: torch's ``ReduceLROnPlateau``, with its metric.

    :class:`lit_modules.LitClassifier` steps it at the end of each epoch that validates, so `patience` counts those.

    Example::

        ReduceOnPlateau(optimizer, total_steps=1000, monitor="val/loss", mode="min")

    Args:
        optimizer: The optimizer.
        total_steps: Steps of the whole run, which make no difference here.
        monitor: The metric.
        mode: Whether the metric is better when it is lower, ``"min"``, or higher, ``"max"``.
        factor: Factor at each plateau, below 1.
        patience: So many validations in a row may be no better than the best; the next one lowers the rate.
        threshold: How much better is better, as a fraction of the best.

    Raises:
        ValueError: If the factor is not below 1, or the mode is another one.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        monitor: str = "val/accuracy",
        mode: Literal["min", "max"] = "max",
        factor: float = 0.1,
        patience: int = 4,
        threshold: float = 1e-4,
    ) -> None:
        super().__init__(optimizer, mode, factor, patience, threshold)
        self.monitor = monitor


def _check_final_fraction(owner: str, final_fraction: float) -> None:
    if not 0 < final_fraction <= 1:
        raise ValueError(
            f"{owner}: final_fraction is {final_fraction}; it must be above 0 and at most 1, what is left of the "
            f"learning rate at the end of the run."
        )
