"""ArcFace: a margin on the angle."""

import math

import torch
from torch import Tensor

from lit_modules.losses.margin_head import MarginHead, choose_scale


class ArcFace(MarginHead):
    """A last layer of scaled cosines that trains with cos(θ + m) for the right class (Deng et al. 2018,
    arXiv:1801.07698, equation 3).

    Beyond θ = π - m, where cos(θ + m) would rise again, it goes on as cos θ - m sin m, as in the authors' code.

    Example::

        scores = ArcFace(in_features=64, num_classes=10)(features, labels)

    Args:
        in_features: Length D of the features.
        num_classes: Number K of classes.
        margin: m, an angle in radians.
        scale: What cosines are multiplied by. None follows the number of classes, see `smallest_scale`.

    Raises:
        ValueError: If ``scale`` is not above 0, ``margin`` is not from 0 to π / 2, or the targets are not labels.
    """

    def __init__(self, in_features: int, num_classes: int, margin: float = 0.5, scale: float | None = None) -> None:
        super().__init__(in_features, num_classes)
        if not 0 <= margin <= math.pi / 2:
            raise ValueError(f"ArcFace: margin is {margin}; it is an angle in radians, from 0 to π / 2.")
        self.margin = margin
        self.scale = choose_scale("ArcFace", num_classes, scale)

    def add_margin(self, cosines: Tensor) -> Tensor:
        # By the sum formula and not through the arc cosine, whose gradient is infinite at both ends.
        sines = (1 - cosines.square()).clamp(min=1e-7).sqrt()
        moved = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        beyond = cosines - self.margin * math.sin(self.margin)
        return torch.where(cosines >= -math.cos(self.margin), moved, beyond)

    def magnitudes(self, features: Tensor, weight: Tensor) -> float:
        return self.scale
