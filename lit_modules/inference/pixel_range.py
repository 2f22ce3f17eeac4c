"""What black and white are for a network: data that are normalized have put them elsewhere than at 0 and 1."""

from typing import Any

import torch
from torch import Tensor


class PixelRange:
    """What a datamodule makes of black and white pixels, which its attribute ``pixel_range`` says, ``(2, C)``.

    Those of ``datamodules`` have it. One of your own that normalizes should have it, from its ``setup`` on; where it is
    None or missing, black is taken to be 0 and white 1.

    Example::

        class Photos(L.LightningDataModule):
            pixel_range = (torch.tensor([[0.0], [1.0]]) - torch.tensor(MEAN)) / torch.tensor(SD)

    Args:
        datamodule: A LightningDataModule, or None.

    Raises:
        ValueError: If its ``pixel_range`` is of another shape, not finite or without a range; later, if images have
            another number of channels.
    """

    def __init__(self, datamodule: Any = None) -> None:
        given = getattr(datamodule, "pixel_range", None)
        self._owner = type(datamodule).__name__
        self._values = None if given is None else torch.as_tensor(given, dtype=torch.float32).detach()
        if self._values is not None and not _is_range(self._values):
            raise ValueError(
                f"{self._owner}.pixel_range must be what black and white become, by channel: two rows of finite "
                f"numbers (2, C), nowhere the same; it is {given}."
            )

    def black(self, images: Tensor) -> Tensor | None:
        """Return what black is in images ``(N, C, H, W)``, ``(C,)`` of their type; None stands for zeros."""
        return None if self._values is None else self._on_device_of(images)[0].to(images.dtype)

    def restore(self, images: Tensor) -> Tensor:
        """Bring images ``(N, C, H, W)`` back to where black is 0 and white is 1, in float32; or leave them if it is."""
        if self._values is None:
            return images
        black, white = self._on_device_of(images)[:, :, None, None]
        return (images.float() - black) / (white - black)

    def _on_device_of(self, images: Tensor) -> Tensor:
        assert self._values is not None
        if self._values.shape[1] != images.shape[1]:
            raise ValueError(
                f"{self._owner}.pixel_range is of {self._values.shape[1]} channel(s), but the images have "
                f"{images.shape[1]}. Give it a column for each."
            )
        self._values = self._values.to(images.device)  # kept there, so that only the first batch waits for the copy
        return self._values


def _is_range(values: Tensor) -> bool:
    return bool(values.ndim == 2 and len(values) == 2 and values.isfinite().all() and (values[0] != values[1]).all())
