"""Center loss."""

import torch
from torch import Tensor, nn


class CenterLoss(nn.Module):
    """Mean squared distance of features from the centre of their class (Wen et al. 2016, ECCV, equation 2).

    The centres are parameters, random at first, and learn from the same loss, with an SGD of their own in the papers
    (learning rate 0.5, no momentum). Wen et al. take half the sum over the batch; this is the mean without the half, as
    in the program of Luo et al. 2019 (arXiv:1903.07071), to which their weight of 5e-4 belongs. A weight on the loss
    scales the gradient of the centres too, so divide it out of that before the step of their optimizer.

    Example::

        loss = cross_entropy(scores, labels) + 5e-4 * center_loss(features, labels)

    Args:
        num_classes: Number K of classes.
        num_features: Length D of the features.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(self, num_classes: int, num_features: int) -> None:
        super().__init__()
        if num_classes < 1 or num_features < 1:
            raise ValueError(
                f"CenterLoss: num_classes={num_classes} and num_features={num_features} must be at least 1."
            )
        self.centers = nn.Parameter(torch.randn(num_classes, num_features))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Map features ``(N, D)`` and labels ``(N,)`` to the loss."""
        with torch.autocast(features.device.type, enabled=False):
            return (features.float() - self.centers.float()[labels]).square().sum(1).mean()
