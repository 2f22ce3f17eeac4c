"""What a transform does that looks at the training images before the first batch."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class FittedTransform(nn.Module, ABC):
    """Base of transforms that take a setting from the training images; a data module calls `fit` once, at set-up."""

    @abstractmethod
    def fit(self, images: Tensor) -> None:
        """Take what is missing from the training images; what was given stays.

        Args:
            images: All training images, ``(N, C, H, W)`` uint8.
        """
