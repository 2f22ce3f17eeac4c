"""Folders of identities: every folder that holds images is an identity, however deep it is."""

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.datasets.folder import IMG_EXTENSIONS

from datamodules.folder_source import FolderSource
from datamodules.folders import ImageFiles, data_root
from datamodules.image_cache import ImageCache
from datamodules.images import InMemoryImages
from datamodules.pk_sampler import FewImages
from datamodules.retrieval import RetrievalDataModule, draw_queries


class RetrievalFolder(RetrievalDataModule):
    """Train on the identities of some folders, search among those of others; decoded once, in memory as uint8.

    A folder below those named that holds images is an identity, whose name is its path, and identities are in the
    order of their names on every process. Some of the training identities are set aside for validation, where each
    image ranks all others.

    ``class_names`` and ``image_shape`` are there after `setup`.

    Example::

        data = RetrievalFolder("omniglot", train=["Korean", "Balinese"], test=["Sanskrit", "Tagalog"], channels=1)

    Args:
        folder: The folder, below ``data_dir`` unless it is absolute.
        train: Folders in it whose identities are trained on.
        test: Folders in it whose identities are searched for.
        queries_per_identity: Test images of each identity that are queries, the others being the gallery; None makes
            every image a query that ranks all others (leave-one-out). An identity with one image is gallery alone.
        val_size: Identities of ``train`` for validation, a number or a share.
        data_dir: Folder of all data sets; by default the environment variable TRICKSTACK_DATA, else ``data``.
        image_size: See `InMemoryImageFolder`.
        channels: 3 for RGB, 1 for grey.
        split_seed: Which identities are for validation, and which images are queries.
        broken: See `InMemoryImageFolder`.
        cache_dir: See there.
        identities_per_batch: As in `RetrievalDataModule`, and so are the others.
        images_per_identity: See there.
        few_images: See there.
        eval_batch_size: See there.
        transforms: See there.
        normalize: See there.

    Raises:
        FileNotFoundError: When there is no such folder.
        ValueError: If an argument is out of range; and when a folder holds no images, is for both training and test,
            has broken files or images of several sizes, or when validation leaves no identity for training.
    """

    def __init__(
        self,
        folder: str,
        train: Sequence[str],
        test: Sequence[str],
        queries_per_identity: int | None = None,
        val_size: int | float = 0.1,
        data_dir: str | None = None,
        image_size: int | None = None,
        channels: Literal[1, 3] = 3,
        split_seed: int = 0,
        broken: Literal["error", "skip"] = "error",
        cache_dir: str | None = None,
        identities_per_batch: int = 16,
        images_per_identity: int = 4,
        few_images: FewImages = "error",
        eval_batch_size: int = 512,
        transforms: Sequence[nn.Module] = (),
        normalize: bool = False,
    ) -> None:
        super().__init__(identities_per_batch, images_per_identity, few_images, eval_batch_size, transforms, normalize)
        problems = [f"{name} names no folder" for name, folders in (("train", train), ("test", test)) if not folders]
        if queries_per_identity is not None and queries_per_identity < 1:
            problems.append(f"queries_per_identity={queries_per_identity} must be at least 1")
        if not (0 < val_size < 1 if isinstance(val_size, float) else val_size >= 1):
            problems.append(f"val_size={val_size} must be a number of identities, from 1, or a share between 0 and 1")
        if not 0 <= split_seed < 2**32:
            problems.append(f"split_seed={split_seed} must be from 0 to {2**32 - 1}")
        if problems:
            raise ValueError(f"RetrievalFolder: {'; '.join(problems)}.")
        root = data_root(data_dir) / folder
        self.train_folders, self.test_folders = list(train), list(test)
        self.source = IdentitySource(
            root, channels, image_size, broken, cache_dir, folders=(*self.train_folders, *self.test_folders)
        )
        self.queries_per_identity = queries_per_identity
        self.val_size = val_size
        self.split_seed = split_seed
        self._names: tuple[str, ...] = ()

    def load(self) -> InMemoryImages:
        images, files = self.source.load()
        self._names = files.class_names
        self.image_shape = tuple(images.images.shape[1:])  # type: ignore[assignment]  # checked to be three
        return images

    def fingerprint(self) -> str:
        """SHA-256 of all images and their identities; decodes only what no cache holds."""
        if self._fingerprint is None:
            self._fingerprint = self.source.fingerprint()
        return self._fingerprint

    def name_identities(self, identities: list[int]) -> tuple[str, ...]:
        return tuple(self._names[identity] for identity in identities)

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        trained, val = self._split_identities(self._below(self.train_folders))
        val_images = torch.isin(targets, val).nonzero().flatten()
        tested = torch.isin(targets, self._below(self.test_folders)).nonzero().flatten()
        query = gallery = tested
        if self.queries_per_identity is not None:
            generator = torch.Generator().manual_seed(self.split_seed)
            chosen = draw_queries(targets, tested, self.queries_per_identity, generator)
            query, gallery = tested[chosen], tested[~chosen]
        return {
            "train": torch.isin(targets, trained).nonzero().flatten(),
            "val_query": val_images,
            "val_gallery": val_images,
            "test_query": query,
            "test_gallery": gallery,
        }

    def _below(self, folders: list[str]) -> Tensor:
        """Return the identities in some folders."""
        inside = [index for index, name in enumerate(self._names) if any(_is_below(name, folder) for folder in folders)]
        return torch.tensor(inside, dtype=torch.int64)

    def _split_identities(self, identities: Tensor) -> tuple[Tensor, Tensor]:
        """Return those for training and those for validation."""
        size = self.val_size
        count = max(1, round(size * len(identities))) if isinstance(size, float) else size
        if count >= len(identities):
            raise ValueError(f"val_size={size} leaves none of {len(identities)} identities for training. Set it lower.")
        # RandomState, because numpy promises that its numbers will never change.
        order = identities[torch.from_numpy(np.random.RandomState(self.split_seed).permutation(len(identities)))]
        return order[:-count], order[-count:]


@dataclass(frozen=True)
class IdentitySource(FolderSource):
    """The identities of some folders, and how their images are read.

    Args:
        folders: Below the root; the other arguments are those of `FolderSource`.
    """

    folders: tuple[str, ...] = ()

    @functools.cached_property
    def found(self) -> ImageFiles:
        """All files, broken ones too."""
        return find_identities(self.root, self.folders)

    def _images(self) -> ImageCache:
        folders = " ".join(map(repr, sorted(set(self.folders))))
        return self._cache(f"identities {self.channels} {self.image_size} {self.broken} {folders}")

    def _check_unchanged(self) -> None:
        if find_identities(self.root, self.folders).stamp() != self.found.stamp():
            raise ValueError(f"the images of {self.root} changed while they were read. Start again when they rest.")


def find_identities(root: Path, folders: Sequence[str]) -> ImageFiles:
    """Find the images below some folders, the folder of each being its identity.

    Args:
        root: The folder of the data set.
        folders: Folders in it.

    Returns:
        The files in the order of their identities' names, the same on every machine.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are no images in one.
    """
    identities: dict[str, list[str]] = {}
    for folder in folders:
        if not (root / folder).is_dir():
            there = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.is_dir())) if root.is_dir() else ""
            raise FileNotFoundError(
                f"there is no folder {root / folder}. "
                + (f"{root} has {there}." if there else "Name another one with data_dir or TRICKSTACK_DATA.")
            )
        below = dict(_walk(root, folder))
        if not below:
            raise ValueError(f"{root / folder} holds no images: none ends with {', '.join(IMG_EXTENSIONS)}.")
        identities |= below
    class_names = tuple(sorted(identities))
    names = [f"{name}/{file}" for name in class_names for file in identities[name]]
    counts = torch.tensor([len(identities[name]) for name in class_names])
    targets = torch.arange(len(class_names)).repeat_interleave(counts)
    return ImageFiles(root, names, targets, class_names, {"train": torch.arange(len(names))})


def _walk(root: Path, folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders that hold images, by their paths below the root, and the names of these; no hidden ones."""
    for path, inside, files in os.walk(root / folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        images = sorted(name for name in files if name.lower().endswith(IMG_EXTENSIONS) and not name.startswith("."))
        if images:
            yield Path(path).relative_to(root).as_posix(), images


def _is_below(name: str, folder: str) -> bool:
    return Path(name).is_relative_to(Path(folder))
