"""Random light of a batch: each image's colour is shifted along the directions in which the data's colours vary."""

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.transforms.fitted import FittedTransform

IMAGENET_EIGENVALUES = (0.2175, 0.0188, 0.0045)
IMAGENET_EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Of the covariance of ImageNet's RGB values from 0 to 1, an eigenvector a column, as in `fb.resnet.torch`."""


def principal_colors(images: Tensor) -> tuple[Tensor, Tensor]:
    """Find the directions in which the pixels of images vary in colour.

    Args:
        images: ``(N, C, H, W)`` uint8.

    Returns:
        Eigenvalues ``(C,)`` of the covariance of the values from 0 to 1, largest first, and eigenvectors ``(C, C)``,
        one a column, both float64.
    """
    channels = images.shape[1]
    total, products = images.new_zeros(channels, dtype=torch.float64), 0
    for part in images.split(1024):
        pixels = part.transpose(0, 1).flatten(1).double() / 255
        total, products = total + pixels.sum(1), products + pixels @ pixels.T
    count = images.numel() / channels
    mean = total / count
    values, vectors = torch.linalg.eigh(products / count - mean.outer(mean))
    return values.flip(0), vectors.flip(1)


class BatchPCALighting(FittedTransform):
    """Shift the colour of each image of a batch by random multiples of the principal colours (AlexNet, section 4.1).

    Krizhevsky et al., 2012: along each eigenvector of the covariance of the colours, by its eigenvalue times a normal
    draw. Values are cut to [0, 1].

    Example::

        BatchPCALighting(sd=0.1)(torch.rand(128, 3, 32, 32))

    Args:
        sd: Standard deviation of the draws.
        eigenvalues: One for each channel, for values from 0 to 1.
        eigenvectors: Rows of the matrix that has an eigenvector in each column. With neither, `fit` finds both.

    Raises:
        ValueError: If ``sd`` is negative or the two do not fit together; on the first batch, if there are none or the
            images have another number of channels.
    """

    def __init__(
        self,
        sd: float = 0.1,
        eigenvalues: Sequence[float] | None = IMAGENET_EIGENVALUES,
        eigenvectors: Sequence[Sequence[float]] | None = IMAGENET_EIGENVECTORS,
    ) -> None:
        super().__init__()
        problems = []
        if sd < 0:
            problems.append(f"sd={sd} must not be negative")
        if (eigenvalues is None) != (eigenvectors is None):
            problems.append("eigenvalues and eigenvectors go together: give both or neither")
        self.sd = sd
        self.shifts: Tensor | None = None
        if eigenvalues is not None and eigenvectors is not None:
            count = len(eigenvalues)
            if [len(row) for row in eigenvectors] == [count] * count:
                self.shifts = torch.tensor(eigenvectors) * torch.tensor(eigenvalues)
            else:
                problems.append(f"{count} eigenvalues need {count} eigenvectors of {count} numbers, got {eigenvectors}")
        if problems:
            raise ValueError(f"BatchPCALighting: {'; '.join(problems)}.")

    def fit(self, images: Tensor) -> None:
        if self.shifts is None:
            values, vectors = principal_colors(images)
            self.shifts = (vectors * values).float()

    def forward(self, images: Tensor) -> Tensor:
        if self.shifts is None:
            raise ValueError("BatchPCALighting has no eigenvalues: give them, or call fit(training images) first.")
        channels = images.shape[1]
        if channels != len(self.shifts):
            raise ValueError(
                f"BatchPCALighting has eigenvectors for {len(self.shifts)} channels, but the images have {channels}. "
                f"Give those of the data, or none and call fit(training images)."
            )
        self.shifts = self.shifts.to(images.device)  # kept there, so that only the first batch waits for the copy
        draws = torch.randn(len(images), channels, device=images.device) * self.sd
        return (images + (draws @ self.shifts.T).to(images.dtype)[:, :, None, None]).clamp(0, 1)

    def extra_repr(self) -> str:
        return f"sd={self.sd}"
