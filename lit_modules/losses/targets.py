"""What the losses have in common: targets of either form as class weights, and the reduction over samples."""

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

Reduction = Literal["mean", "none"]
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"mean": torch.mean, "none": lambda losses: losses}


@runtime_checkable
class LearnsFrequencies(Protocol):
    """A loss, or a part of one, that has to know how frequent the classes are before training begins."""

    def learn_frequencies(self, targets: Tensor) -> None:
        """Look at the targets of all training samples, ``(N,)`` or ``(N, K)``."""


def to_class_weights(targets: Tensor, scores: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Map targets to class weights ``(N, K)`` in the scores' dtype, smoothed as torch's cross entropy does it.

    Never waits for the device.

    Args:
        targets: Labels ``(N,)``, or class weights or several labels as zeros and ones ``(N, K)``.
        scores: Class scores ``(N, K)``.
        label_smoothing: Share of the weight that is spread over all classes.
    """
    if targets.ndim == scores.ndim:
        weights = targets.to(scores.dtype)
    else:
        weights = torch.zeros_like(scores).scatter_(1, targets.unsqueeze(1), 1.0)
    return weights * (1 - label_smoothing) + label_smoothing / scores.shape[1] if label_smoothing else weights


def check_label_smoothing(name: str, label_smoothing: float) -> None:
    """Refuse what is no share.

    Raises:
        ValueError: If the smoothing is below 0 or above 1.
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing is {label_smoothing}; it must be from 0 to 1.")
