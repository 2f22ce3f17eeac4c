"""Random light of one image, for data sets whose boxes move with the pixels."""

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from datamodules.transforms import BatchPCALighting


class PCALighting(v2.Transform):
    """Shift the colour of an image by random multiples of ImageNet's principal colours (AlexNet, section 4.1).

    What `BatchPCALighting` does to a batch; boxes stay where they are.

    Example::

        VOCFolder(folder="bccd", transforms=[PCALighting(sd=0.1)])

    Args:
        sd: Standard deviation of the draws.

    Raises:
        ValueError: If ``sd`` is negative.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(self, sd: float = 0.1) -> None:
        super().__init__()
        if sd < 0:
            raise ValueError(f"PCALighting: sd is {sd}; it must not be negative.")
        self.sd = sd
        self._shift = BatchPCALighting(sd)

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Shift an image ``(3, H, W)`` uint8."""
        pixels = inpt.as_subclass(Tensor)[None] / 255
        return tv_tensors.wrap((self._shift(pixels)[0] * 255).round().to(torch.uint8), like=inpt)
