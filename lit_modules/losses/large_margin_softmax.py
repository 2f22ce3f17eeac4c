"""L-Softmax: an angle that counts several times."""

import math

import torch
from torch import Tensor

from lit_modules.losses.margin_head import MarginHead


class LargeMarginSoftmax(MarginHead):
    """A linear last layer that trains with ‖w‖ ‖x‖ ψ(θ) for the right class (Liu et al. 2016, arXiv:1612.02295).

    ψ(θ) = (-1)^k cos(mθ) - 2k where k = ⌊mθ/π⌋, so that it falls all the way from θ = 0 to π (equations 4 and 6).
    Lengths are not normalized: they are the scale, and a network that finds the margin too hard at the start makes them
    0 and stays there. So the plain cosine is mixed in, as (λ cos θ + ψ(θ)) / (1 + λ). The paper lowers λ
    to a small value in training; here it has that value throughout.

    Example::

        scores = LargeMarginSoftmax(in_features=64, num_classes=10)(features, labels)

    Args:
        in_features: Length D of the features.
        num_classes: Number K of classes.
        margin: m, how many times the angle counts.
        easing: λ, the weight of the plain cosine where that of the margin is 1.

    Raises:
        ValueError: If ``margin`` is below 1, ``easing`` is negative, or the targets are not labels.
    """

    def __init__(self, in_features: int, num_classes: int, margin: int = 2, easing: float = 5.0) -> None:
        super().__init__(in_features, num_classes)
        if margin < 1:
            raise ValueError(f"LargeMarginSoftmax: margin is {margin}; it must be a whole number from 1 up.")
        if easing < 0:
            raise ValueError(f"LargeMarginSoftmax: easing is {easing}; it must be at least 0.")
        self.margin = margin
        self.easing = easing

    def add_margin(self, cosines: Tensor) -> Tensor:
        cosines = cosines.clamp(-1, 1)
        with torch.no_grad():
            k = (cosines.acos() * (self.margin / math.pi)).floor()
        before, multiple = torch.ones_like(cosines), cosines
        for _ in range(self.margin - 1):  # cos((n + 1)θ) = 2 cos θ cos(nθ) - cos((n - 1)θ)
            before, multiple = multiple, 2 * cosines * multiple - before
        with_margin = (1 - 2 * (k % 2)) * multiple - 2 * k
        return (self.easing * cosines + with_margin) / (1 + self.easing)

    def magnitudes(self, features: Tensor, weight: Tensor) -> Tensor:
        return features.norm(dim=1, keepdim=True) * weight.norm(dim=1)
