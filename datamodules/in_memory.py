"""Image data sets that fit in memory: a batch is one indexing operation, augmentation runs on the training device."""

import hashlib
import warnings
from abc import abstractmethod
from typing import Any

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from datamodules.image_data import ImageDataModule
from datamodules.images import InMemoryImages
from datamodules.loaders import whole_batch
from datamodules.splits import first_share


def _images_alone(batch: Any) -> Any:
    return batch[0]


class InMemoryDataModule(ImageDataModule):
    """Base of the data sets that fit in memory. A subclass says how to load the images and how to split them.

    Example::

        class Mine(InMemoryDataModule):
            class_names = ("cat", "dog")
            image_shape = (3, 32, 32)

            def load(self):
                return InMemoryImages(images, targets)

            def split(self, targets):
                return {"train": torch.arange(800), "val": torch.arange(800, 900), "test": torch.arange(900, 1000)}

    All arguments are those of `ImageDataModule`.
    """

    sets: dict[str, InMemoryImages]
    _fingerprint: str | None = None
    _targets: Tensor | None = None

    @abstractmethod
    def load(self) -> InMemoryImages:
        """Read all images of the data set, always in the same order."""

    @abstractmethod
    def split(self, targets: Tensor) -> dict[str, Tensor]:
        """Choose the indices of the images of ``train``, ``val`` and ``test``.

        Args:
            targets: Classes of all images, ``(N,)``, in the order of `load`.
        """

    def split_unlabeled(self, targets: Tensor) -> Tensor:
        """Choose the indices of the images that would be for training but whose labels are not used: none, here.

        Args:
            targets: Classes of all images, ``(N,)``, in the order of `load`.
        """
        return torch.empty(0, dtype=torch.int64)

    def fingerprint(self) -> str:
        """SHA-256 of all images and targets of the data set, whichever of them are trained on."""
        if self._fingerprint is None:
            source = self.load()
            self._fingerprint, self._targets = content_hash(source), source.targets
        return self._fingerprint

    def known_training_targets(self) -> Tensor | None:
        """What the last `fingerprint` came by."""
        if self._targets is None:
            return None
        self._check_labels("given", self._targets)
        return self._targets[self._make_parts(self._targets)["train"]]

    def make_sets(self) -> dict[str, InMemoryImages]:
        source = self.load()
        return {name: source.subset(indices) for name, indices in self._make_parts(source.targets).items()}

    def _make_parts(self, targets: Tensor) -> dict[str, Tensor]:
        parts = self.split(targets)
        if self.train_fraction < 1:
            parts["train"] = parts["train"][first_share(targets[parts["train"]], self.train_fraction)]
        return parts

    def make_unlabeled(self) -> InMemoryImages:
        source = self.load()
        return source.subset(self.split_unlabeled(source.targets))

    def measured_images(self) -> Tensor:
        return self.sets["train"].images

    def make_loader(
        self, images: Any, batch_size: int, sampler: DistributedSampler, drop_last: bool, labeled: bool = True
    ) -> DataLoader[Any]:
        # Lightning advises to add workers. A batch costs less here than its way out of a worker would.
        warnings.filterwarnings("ignore", r"The '\w+' does not have many workers", category=PossibleUserWarning)
        return DataLoader(
            images,
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=whole_batch if labeled else _images_alone,
            drop_last=drop_last,
            pin_memory=self._on_cuda(),
            generator=torch.Generator(),  # else every pass over a loader draws from the global generator
        )


def content_hash(source: InMemoryImages) -> str:
    """SHA-256 of images and targets."""
    digest = hashlib.sha256(f"{tuple(source.images.shape)}".encode())
    for array in (source.images, source.targets):
        digest.update(array.contiguous().numpy().data)
    return digest.hexdigest()
