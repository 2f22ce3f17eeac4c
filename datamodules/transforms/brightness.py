"""Random brightness of a batch, kept within the brightness that the data have."""

import torch
from torch import Tensor

from datamodules.transforms.fitted import FittedTransform

_LEFT_OUT = 0.05


def brightness_bounds(images: Tensor) -> tuple[float, float]:
    """Measure the range of brightness that images have, without the darkest and the brightest 5 %.

    Args:
        images: ``(N, C, H, W)`` uint8.

    Returns:
        The 5 % and the 95 % quantile of the images' mean values, from 0 to 1.
    """
    means = images.flatten(1).sum(1, dtype=torch.int64).double() / (255 * images[0].numel())
    low, high = means.quantile(torch.tensor([_LEFT_OUT, 1 - _LEFT_OUT], dtype=torch.float64)).tolist()
    return low, high


class BatchBrightnessJitter(FittedTransform):
    """Multiply each image of a batch by a random factor that leaves its brightness within that of the data.

    The factor is uniform from ``1 - strength`` to ``1 + strength``, cut where the mean of the image would fall below
    or rise above ``bounds``. An image that lies outside already is only ever moved towards them. Values stay in [0, 1].

    Example::

        jitter = BatchBrightnessJitter(strength=0.4)
        jitter.fit(training_images)

    Args:
        strength: Largest relative change of brightness.
        bounds: Lowest and highest mean of an image, from 0 to 1. Without it, `fit` measures them.

    Raises:
        ValueError: If ``strength`` or ``bounds`` is out of range; on the first batch, if there are no bounds.
    """

    def __init__(self, strength: float = 0.4, bounds: tuple[float, float] | None = None) -> None:
        super().__init__()
        problems = []
        if not 0 <= strength <= 1:
            problems.append(f"strength={strength} must be between 0 and 1")
        if bounds is not None and not 0 <= bounds[0] <= bounds[1] <= 1:
            problems.append(f"bounds={tuple(bounds)} must hold a lower and a higher mean between 0 and 1")
        if problems:
            raise ValueError(f"BatchBrightnessJitter: {'; '.join(problems)}.")
        self.strength = strength
        self.bounds = None if bounds is None else (bounds[0], bounds[1])

    def fit(self, images: Tensor) -> None:
        if self.bounds is None:
            self.bounds = brightness_bounds(images)

    def forward(self, images: Tensor) -> Tensor:
        if self.bounds is None:
            raise ValueError("BatchBrightnessJitter has no bounds: give them, or call fit(training images) first.")
        means = images.mean((1, 2, 3), dtype=torch.float32).clamp(min=1e-6)  # a black image stays black
        low = (self.bounds[0] / means).clamp(1 - self.strength, 1)
        high = (self.bounds[1] / means).clamp(1, 1 + self.strength)
        factor = torch.lerp(low, high, torch.rand(len(images), device=images.device))
        return (images * factor.to(images.dtype).view(-1, 1, 1, 1)).clamp(0, 1)

    def extra_repr(self) -> str:
        return f"strength={self.strength}, bounds={self.bounds}"
