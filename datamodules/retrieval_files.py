"""Retrieval data sets of image files: in memory, or decoded by workers when asked for."""

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from datamodules.decoding import decode_image, fit_image
from datamodules.folder_source import FolderSource, Size
from datamodules.folders import ImageFiles, data_root
from datamodules.image_cache import ImageCache
from datamodules.loaders import make_decoding_loader
from datamodules.pk_sampler import FewImages
from datamodules.retrieval import UNKNOWN_CAMERA, RetrievalDataModule, RetrievalEntries

_MEASURED = 2000  # training images from which the channels' statistics are estimated, if not all are in memory


@dataclass(frozen=True)
class IdentityFiles(ImageFiles):
    """Image files with the identity of each, and what each is for.

    ``targets`` are identities, as places in ``class_names``; ``given`` has the parts ``train``, ``query`` and
    ``gallery``, where the same file may be query and gallery.

    Args:
        cameras: Camera of each file, ``(N,)``; -1 is unknown.
    """

    cameras: Tensor

    def without(self, left_out: list[int]) -> Self:
        """Leave files out."""
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[left_out] = False
        return self.keep(kept)

    def keep(self, kept: Tensor) -> Self:
        return replace(super().keep(kept), cameras=self.cameras[kept])


def identity_files(
    root: Path, parts: dict[str, list[str]], name: Callable[[str], str], cameras: dict[str, int] | None = None
) -> IdentityFiles:
    """Bring files into the order of their identities' names, and of their own: the same on every machine.

    Args:
        root: The folder of the data set.
        parts: Paths below it by part: ``train``, ``query`` and ``gallery``.
        name: Tells the name of a file's identity.
        cameras: Camera of each file, if known.
    """
    names = sorted({path for paths in parts.values() for path in paths}, key=lambda path: (name(path), path))
    class_names = tuple(sorted({name(path) for path in names}))
    codes = {identity: code for code, identity in enumerate(class_names)}
    places = {path: place for place, path in enumerate(names)}
    known = cameras or {}
    return IdentityFiles(
        root,
        names,
        torch.tensor([codes[name(path)] for path in names], dtype=torch.int64),
        class_names,
        {part: torch.tensor(sorted(places[path] for path in paths)).long() for part, paths in parts.items()},
        torch.tensor([known.get(path, UNKNOWN_CAMERA) for path in names], dtype=torch.int64),
    )


class FileImages:
    """Images that are decoded when they are asked for, with what data sets use of a tensor ``(N, C, H, W)``.

    Args:
        files: All files.
        rows: Which of them these are, ``(N,)``.
        channels: 3 for RGB, 1 for grey.
        size: Side of a square, or height and width.
    """

    def __init__(self, files: ImageFiles, rows: Tensor, channels: int, size: Size) -> None:
        self.files, self.rows, self.channels, self.size = files, rows, channels, size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, wanted: int | Tensor) -> Any:
        """One image ``(C, H, W)``, or some of these, not decoded yet."""
        if isinstance(wanted, Tensor):
            return FileImages(self.files, self.rows[wanted], self.channels, self.size)
        path = self.files.path(int(self.rows[wanted]))
        return fit_image(decode_image(path, self.channels), self.size)

    def index_select(self, dimension: int, wanted: Tensor) -> Tensor:
        """Decode some, ``(n, C, H, W)`` uint8."""
        return torch.stack([self[place] for place in wanted.tolist()])


@dataclass(frozen=True)
class IdentitySource(FolderSource):
    """The files of a retrieval data set, and how their images are read.

    Args:
        find: Finds the files; the other arguments are those of `FolderSource`.
        selection: What tells these files from others of the same folder.
    """

    find: Callable[[], IdentityFiles] = NotImplemented
    selection: str = ""

    @functools.cached_property
    def found(self) -> IdentityFiles:
        """All files, broken ones too."""
        return self.find()

    def _images(self) -> ImageCache:
        return self._cache(f"identities {self.channels} {self.image_size} {self.broken} {self.selection}")

    def _check_unchanged(self) -> None:
        if self.find().stamp() != self.found.stamp():
            raise ValueError(f"the images of {self.root} changed while they were read. Start again when they rest.")


class RetrievalFiles(RetrievalDataModule):
    """Base of the retrieval data sets of image files. A subclass says which files there are, and what each is for.

    Identities are in the order of their names on every process. Some of those for training are set aside for
    validation, where each image ranks all others. ``class_names`` and ``image_shape`` are there after `setup`.

    Args:
        folder: The folder, below ``data_dir`` unless it is absolute; by default the data set's own name.
        data_dir: Folder of all data sets; by default the environment variable TRICKSTACK_DATA, else ``data``.
        image_size: Side of the square that every image becomes, see `InMemoryImageFolder`, or height and width to which
            it is stretched; by default what is usual for the data set.
        channels: 3 for RGB, 1 for grey.
        val_size: Training identities for validation, a number or a share; 0 leaves validation out.
        split_seed: Which identities are for validation, and which images are queries where that is drawn.
        broken: See `InMemoryImageFolder`.
        cache_dir: See there.
        in_memory: Decode all images once and keep them as uint8; else workers decode them each time.
        num_workers: Processes that decode, for each loader and each training process; 0 decodes in this one.
        identities_per_batch: As in `RetrievalDataModule`, and so are the others.
        images_per_identity: See there.
        few_images: See there.
        eval_batch_size: See there.
        transforms: See there.
        normalize: See there; without all images in memory the statistics are estimated from 2,000 training images.

    Raises:
        FileNotFoundError: When files are not there.
        ValueError: If an argument is out of range; when images are broken or of several sizes, or validation leaves no
            identity for training.
    """

    default_folder: ClassVar[str] = ""
    default_size: ClassVar[Size] = None

    def __init__(
        self,
        folder: str | None = None,
        data_dir: str | None = None,
        image_size: int | tuple[int, int] | None = None,
        channels: Literal[1, 3] = 3,
        val_size: int | float = 0.1,
        split_seed: int = 0,
        broken: Literal["error", "skip"] = "error",
        cache_dir: str | None = None,
        in_memory: bool = True,
        num_workers: int = 4,
        identities_per_batch: int = 16,
        images_per_identity: int = 4,
        few_images: FewImages = "error",
        eval_batch_size: int = 512,
        transforms: Sequence[nn.Module] = (),
        normalize: bool = False,
    ) -> None:
        super().__init__(identities_per_batch, images_per_identity, few_images, eval_batch_size, transforms, normalize)
        size = self.default_size if image_size is None else image_size
        problems = []
        if not (0 < val_size < 1 if isinstance(val_size, float) else val_size >= 0):
            problems.append(f"val_size={val_size} must be a number of identities, from 0, or a share between 0 and 1")
        if not 0 <= split_seed < 2**32:
            problems.append(f"split_seed={split_seed} must be from 0 to {2**32 - 1}")
        if num_workers < 0:
            problems.append(f"num_workers={num_workers} must be at least 0")
        if not in_memory and size is None:
            problems.append("in_memory=False needs image_size, since a batch has images of one size")
        if problems:
            raise ValueError(f"{type(self).__name__}: {'; '.join(problems)}.")
        root = data_root(data_dir) / (folder or self.default_folder)
        self.source = IdentitySource(
            root, channels, size, broken, cache_dir, find=self.find_files, selection=self.selection()
        )
        self.val_size = val_size
        self.split_seed = split_seed
        self.in_memory = in_memory
        self.num_workers = num_workers
        self._files: IdentityFiles | None = None

    @property
    def root(self) -> Path:
        """The folder of the data set."""
        return self.source.root

    @abstractmethod
    def find_files(self) -> IdentityFiles:
        """Find the files below `root`, without reading an image."""

    def selection(self) -> str:
        """Return what tells these files from others of the same folder, for the cache; called by `__init__`."""
        return type(self).__name__

    @property
    def files(self) -> IdentityFiles:
        """The files, without broken ones, after `load`."""
        assert self._files is not None
        return self._files

    def load(self) -> Any:
        """Read all images, or find them if they are not to be in memory; their targets are identities."""
        files: ImageFiles
        if self.in_memory:
            images, files = self.source.load()
            pixels: Any = images.images
            self.image_shape = tuple(pixels.shape[1:])
        else:
            files = self.source.find_intact()
            size = self.source.image_size
            pixels = FileImages(files, torch.arange(len(files)), self.source.channels, size)
            height, width = (size, size) if isinstance(size, int) else size or (0, 0)
            self.image_shape = (self.source.channels, height, width)
        assert isinstance(files, IdentityFiles)
        self._files = files
        return RetrievalEntries(pixels, files.targets)

    def read_identities(self) -> Tensor:
        """Return the identities of all files that can be decoded; none is decoded unless broken ones are left out."""
        leaves_out = self.in_memory and self.source.broken == "skip"
        files = self.source.load()[1] if leaves_out else self.source.find_intact()
        assert isinstance(files, IdentityFiles)
        self._files = files
        return files.targets

    def fingerprint(self) -> str:
        """SHA-256 of all images, identities, cameras and parts.

        Images in memory count with their pixels, and only what no cache holds is decoded for that; others with the
        names and sizes of their files.
        """
        if self._fingerprint is None:
            found = self.source.found
            content = self.source.fingerprint() if self.in_memory else found.names_and_sizes()
            digest = hashlib.sha256(f"{content} {found.class_names}".encode())
            for tensor in (found.targets, found.cameras, *(found.given[part] for part in sorted(found.given))):
                digest.update(f"{len(tensor)} ".encode() + tensor.numpy().tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def name_identities(self, identities: list[int]) -> tuple[str, ...]:
        return tuple(self.files.class_names[identity] for identity in identities)

    def cameras(self, identities: Tensor) -> Tensor:
        return self.files.cameras

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        given = self.files.given["train"]
        trained, val = self._split_identities(targets[given].unique())
        val_images = given[torch.isin(targets[given], val)]
        query, gallery = self.queries_and_gallery()
        return {
            "train": given[torch.isin(targets[given], trained)],
            "val_query": val_images,
            "val_gallery": val_images,
            "test_query": query,
            "test_gallery": gallery,
        }

    def queries_and_gallery(self) -> tuple[Tensor, Tensor]:
        """Return the test images that are queries and those that are ranked, after `load`."""
        return self.files.given["query"], self.files.given["gallery"]

    def measured_images(self) -> Tensor:
        images = self.sets["train"].images
        if isinstance(images, Tensor):
            return images
        count = min(_MEASURED, len(images))
        return images.index_select(0, torch.linspace(0, len(images) - 1, count).long())

    def make_loader(
        self, images: Any, batch_size: int, sampler: DistributedSampler, drop_last: bool, labeled: bool = True
    ) -> DataLoader[Any]:
        if self.in_memory:
            return super().make_loader(images, batch_size, sampler, drop_last, labeled)
        return make_decoding_loader(images, batch_size, sampler, drop_last, self.num_workers, self._on_cuda())

    def _split_identities(self, identities: Tensor) -> tuple[Tensor, Tensor]:
        """Return those for training and those for validation."""
        size = self.val_size
        count = max(1, round(size * len(identities))) if isinstance(size, float) else size
        if count >= len(identities):
            raise ValueError(f"val_size={size} leaves none of {len(identities)} identities for training. Set it lower.")
        # RandomState, because numpy promises that its numbers will never change.
        order = identities[torch.from_numpy(np.random.RandomState(self.split_seed).permutation(len(identities)))]
        return order[: len(order) - count], order[len(order) - count :]
