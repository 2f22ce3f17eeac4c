"""Pictures of what a module does with test images: what any task offers, and what all tasks need for it.

A LightningModule that has `pictures` is asked for some after a test that ran on it; see `ShowsPictures`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from torch import Tensor

LEAST_SIDE, MOST_SIDE = 64, 320
"""How small and how large, in pixels, the longer side of a shown image is."""


@dataclass(frozen=True, eq=False)
class TaskPicture:
    """One picture.

    Args:
        image: ``(3, H, W)`` uint8, on the CPU; made by `displayed`, and drawn upon as the task likes.
        caption: what is seen, in one sentence of plain text: "A 9, taken for a 4 (97 %)".
    """

    image: Tensor
    caption: str


@runtime_checkable
class ShowsPictures(Protocol):
    """A module that shows what it does. The method changes nothing of the module, and draws nothing at random."""

    def pictures(self, datamodule: L.LightningDataModule, most: int) -> list[TaskPicture]:
        """Return what is worth looking at of the last test, the most telling first; none if there is nothing.

        Args:
            datamodule: the data that was tested.
            most: how many at most.
        """


def images_of_test(datamodule: L.LightningDataModule, indices: Sequence[int]) -> list[Tensor]:
    """Return images of the test set as its loader delivers them, before the device makes of them what the model sees.

    Args:
        datamodule: its test loader gives batches whose first part are the images.
        indices: places in the order of the data set, that of `gather_in_dataset_order`.

    Returns:
        One image ``(C, H, W)`` for each index.
    """
    return list(tested_batch(datamodule, indices)[0]) if indices else []


def tested_batch(datamodule: L.LightningDataModule, indices: Sequence[int]) -> Any:
    """Return a batch of the test set as its loader delivers it: images, and what belongs to them.

    Args:
        datamodule: its test loader gives batches whose first part are the images.
        indices: places in the order of the data set; at least one.
    """
    loader: Any = datamodule.test_dataloader()
    if isinstance(loader, list | tuple):
        (loader,) = loader
    dataset, wanted = loader.dataset, list(indices)
    fetched = dataset.__getitems__(wanted) if hasattr(dataset, "__getitems__") else [dataset[i] for i in wanted]
    return loader.collate_fn(fetched)


def displayed(image: Tensor) -> Tensor:
    """Return an image as it can be shown: colours, uint8, neither tiny nor huge.

    Args:
        image: ``(C, H, W)``, uint8, or floats, which are stretched from the least to the greatest unless they lie in
            [0, 1]. Of 2 channels or more than 3, the first is shown in grey.

    Returns:
        ``(3, H', W')`` uint8 on the CPU. A small image is enlarged a whole number of times, so pixels stay sharp.
    """
    image = image.detach().cpu()
    if image.dtype != torch.uint8:
        image = image.float()
        low, high = image.min(), image.max()
        if low < 0 or high > 1:
            image = (image - low) / (high - low).clamp(min=1e-12)
        image = (image * 255).round().to(torch.uint8)
    image = image if len(image) == 3 else image[:1].expand(3, -1, -1)
    side = max(image.shape[1:])
    if side > MOST_SIDE:
        size = [max(1, round(length * MOST_SIDE / side)) for length in image.shape[1:]]
        small = torch.nn.functional.interpolate(image[None].float(), size, mode="bilinear", antialias=True)
        return small[0].round().clamp(0, 255).to(torch.uint8)
    times = max(1, -(-LEAST_SIDE // side))
    return image.repeat_interleave(times, 1).repeat_interleave(times, 2)
