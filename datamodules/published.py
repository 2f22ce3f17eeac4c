"""Published data sets that fit in memory, read by torchvision."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from datamodules.folders import data_root
from datamodules.images import InMemoryImages
from datamodules.in_memory import InMemoryDataModule
from datamodules.splits import SplitSizes, split_images


class PublishedImages(InMemoryDataModule):
    """Base of the data sets that torchvision reads and that have training and test images.

    ``class_names`` are there after `setup`.

    Args:
        data_dir: Folder of all data sets; by default the environment variable TRICKSTACK_DATA, else ``data``.
        download: Get the files if they are not there.
        val_size: Validation images, a number or a share of the training images, from which they are taken.
        train_size: Training images; more add to fewer and replace none. By default all that are left.
        labels_per_class: Training images of each class, in place of ``train_size``.
        split_seed: Which training images are for validation, and which are used.
        batch_size: As in `ImageDataModule`, and so are the others.
        eval_batch_size: See there.
        transforms: See there.
        mixes: See there.
        mix_off_epochs: See there.
        normalize: See there.
        class_balanced: See there.
        train_fraction: See there.

    Raises:
        FileNotFoundError: When the files are not there, with how to get them.
        ValueError: If an argument is out of range, or there are fewer images than asked for.
    """

    reader: ClassVar[Any]
    """Class of torchvision's data set."""
    folder: ClassVar[str]
    """Where it looks below ``data_dir``."""
    archives: ClassVar[tuple[str, ...]]
    """What its files come in, in the place from which it unpacks them."""
    url: ClassVar[str]

    def __init__(
        self,
        data_dir: str | None = None,
        download: bool = False,
        val_size: int | float = 5000,
        train_size: int | None = None,
        labels_per_class: int | None = None,
        split_seed: int = 0,
        batch_size: int = 128,
        eval_batch_size: int = 512,
        transforms: Sequence[nn.Module] = (),
        mixes: Sequence[nn.Module] = (),
        mix_off_epochs: int = 0,
        normalize: bool = False,
        class_balanced: bool = False,
        train_fraction: float = 1.0,
    ) -> None:
        super().__init__(
            batch_size,
            eval_batch_size,
            transforms,
            mixes,
            mix_off_epochs,
            normalize,
            class_balanced,
            train_fraction,
        )
        self.sizes = SplitSizes(val_size, 0, train_size, labels_per_class, split_seed)
        self.root = data_root(data_dir)
        self.download = download
        self._given: dict[str, Tensor] = {}

    def prepare_data(self) -> None:
        """Get the files, if asked; one process of a machine does."""
        if self.download:
            self._read(train=True)

    def load(self) -> InMemoryImages:
        parts = [self._read(train=True), self._read(train=False)]
        self.class_names = tuple(parts[0].classes)
        ends = [len(part.targets) for part in parts]
        self._given = dict(zip(("train", "test"), torch.arange(sum(ends)).split(ends), strict=True))
        images = torch.cat([_as_channels_first(part.data) for part in parts])
        return InMemoryImages(images, torch.cat([torch.as_tensor(part.targets, dtype=torch.int64) for part in parts]))

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        return split_images(targets, self._given, self.sizes)[0]

    def split_unlabeled(self, targets: Tensor) -> Tensor:
        """What ``train_size`` or ``labels_per_class`` leaves of the training images."""
        return split_images(targets, self._given, self.sizes)[1]

    def _read(self, train: bool) -> Any:
        self._check_archives()
        try:
            return self.reader(str(self.root), train=train, download=self.download)
        except (RuntimeError, OSError) as error:
            raise FileNotFoundError(self._how_to_get(error)) from error

    def _check_archives(self) -> None:
        for name in self.archives:
            if (self.root / name).is_dir():
                raise ValueError(f"{self.root / name} is a folder, but the archive from {self.url} is meant.")
        if (self.root / self.folder).is_file():
            raise ValueError(f"{self.root / self.folder} is a file, but the folder that the archive holds is meant.")

    def _how_to_get(self, error: Exception) -> str:
        name, place = self.reader.__name__, self.root / self.folder
        if self.download:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return f"{name} could not be got from {self.url} ({reason}). Put its files into {place} yourself."
        if any((self.root / archive).is_file() for archive in self.archives):
            return f"{name} is not unpacked in {place}. Set download to true, which unpacks the archive that is there."
        return (
            f"{name} is not in {place}, or not whole. Set download to true, or put the files from {self.url} there, or "
            f"name another folder with data_dir or the environment variable TRICKSTACK_DATA."
        )


class CIFAR10(PublishedImages):
    """50,000 training and 10,000 test images of 10 classes, 32 x 32 in colour (Krizhevsky 2009)."""

    reader = torchvision.datasets.CIFAR10
    folder = reader.base_folder
    archives = (reader.filename,)
    url = reader.url
    image_shape = (3, 32, 32)


class CIFAR100(PublishedImages):
    """50,000 training and 10,000 test images of 100 classes, 32 x 32 in colour (Krizhevsky 2009)."""

    reader = torchvision.datasets.CIFAR100
    folder = reader.base_folder
    archives = (reader.filename,)
    url = reader.url
    image_shape = (3, 32, 32)


class FashionMNIST(PublishedImages):
    """60,000 training and 10,000 test images of 10 classes, 28 x 28 in grey (Xiao et al. 2017, arXiv:1708.07747)."""

    reader = torchvision.datasets.FashionMNIST
    folder = "FashionMNIST/raw"
    archives = tuple(f"FashionMNIST/raw/{name}" for name, _ in reader.resources)
    url = reader.mirrors[0]
    image_shape = (1, 28, 28)


def _as_channels_first(pixels: Tensor | np.ndarray) -> Tensor:
    """Make of ``(N, H, W)`` or ``(N, H, W, C)`` uint8 ``(N, C, H, W)``."""
    images = torch.as_tensor(pixels)
    return images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
