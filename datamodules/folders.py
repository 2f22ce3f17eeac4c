"""Folders of images, a folder a class, found and checked without reading an image.

Three layouts: ``train/``, ``val/`` and ``test/`` with a folder a class in each; the same without ``val/``; or the
classes' folders alone.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

PARTS = ("train", "val", "test")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip", ".tar.xz", ".tar.bz2")


def data_root(data_dir: str | None) -> Path:
    """Return the folder of the data sets: what is named, else ``$TRICKSTACK_DATA``, else ``data``."""
    return Path(data_dir or os.environ.get("TRICKSTACK_DATA") or "data").expanduser()


@dataclass(frozen=True)
class ImageFiles:
    """The image files of a folder, in a fixed order, with the class of each.

    Args:
        root: The folder.
        names: Paths of the files below it.
        targets: Class of each file, ``(N,)``.
        class_names: The classes, sorted.
        given: Indices of the files of each part that has a folder of its own; ``train`` is all files if none has.
    """

    root: Path
    names: list[str]
    targets: Tensor
    class_names: tuple[str, ...]
    given: dict[str, Tensor] = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        return self.root / self.names[index]

    def without(self, left_out: list[int]) -> Self:
        """Leave files out.

        Raises:
            ValueError: If a class has no file left in a part.
        """
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[left_out] = False
        for part, indices in self.given.items():
            left = self.targets[indices[kept[indices]]].bincount(minlength=len(self.class_names))
            if (left == 0).any():
                name = self.class_names[int((left == 0).nonzero()[0])]
                raise ValueError(f"{self.root}: all images of class {name!r} for {part} are broken. Replace them.")
        return self.keep(kept)

    def keep(self, kept: Tensor) -> Self:
        """Return some of the files, those that are ``kept``, ``(N,)`` bool."""
        places = kept.cumsum(0) - 1
        return replace(
            self,
            names=[name for name, keep in zip(self.names, kept.tolist(), strict=True) if keep],
            targets=self.targets[kept],
            given={part: places[indices[kept[indices]]] for part, indices in self.given.items()},
        )

    def stamp(self) -> str:
        """SHA-256 of the names, sizes and times of all files: another as soon as one is added, removed or written.

        The time of the last change of the inode is in it, which nobody sets: a file that is replaced by one of the same
        size and with the same modification time, as archives and ``cp -p`` restore it, is noticed too.
        """
        digest = hashlib.sha256()
        for index, name in enumerate(self.names):
            status = self.path(index).stat()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\n".encode())
        return digest.hexdigest()

    def names_and_sizes(self) -> str:
        """SHA-256 of the names and sizes of all files, the same wherever the folder is copied to."""
        digest = hashlib.sha256()
        for index, name in enumerate(self.names):
            digest.update(f"{name}\0{self.path(index).stat().st_size}\n".encode())
        return digest.hexdigest()


def find_images(root: Path, test_folder: str = "test") -> ImageFiles:
    """Find the images of a folder and the part of the data set that each belongs to.

    Args:
        root: The folder; see above for its layouts.
        test_folder: Name of the folder with the test images. If it is ``val``, there is no folder for validation.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder is an archive, holds no images or an empty class, or its parts differ in their classes
            or in their layout.
    """
    _check_folder(root)
    folders = _part_folders(root, test_folder)
    class_names = _shared_classes(root, folders)
    names: list[str] = []
    targets: list[int] = []
    given: dict[str, Tensor] = {}
    for part, folder in folders.items():
        start = len(names)
        indices = {name: index for index, name in enumerate(class_names)}
        for path, target in make_dataset(folder, indices, extensions=IMG_EXTENSIONS, allow_empty=True):
            names.append(os.path.relpath(path, root))
            targets.append(target)
        given[part] = torch.arange(start, len(names))
        counts = torch.tensor(targets[start:], dtype=torch.int64).bincount(minlength=len(class_names))
        empty = [name for name, count in zip(class_names, counts.tolist(), strict=True) if not count]
        if len(empty) == len(class_names):
            raise ValueError(f"{folder} holds no images: none of its files ends with {', '.join(IMG_EXTENSIONS)}.")
        if empty:
            raise ValueError(f"{folder} has no images of {_listed(empty)}. Add some, or remove the empty folder(s).")
    return ImageFiles(root, names, torch.tensor(targets, dtype=torch.int64), class_names, given)


def _check_folder(root: Path) -> None:
    if root.is_file():
        raise ValueError(f"{root} is a file, but a folder of images is meant. Unpack it and name the folder.")
    if root.is_dir():
        return
    for ending in _ARCHIVES:
        archive = root.with_name(root.name + ending)
        if archive.is_file():
            raise FileNotFoundError(f"there is no folder {root}, but the archive {archive}. Unpack it there.")
    raise FileNotFoundError(
        f"there is no folder {root}. Put the images there, a folder a class, or name another folder with data_dir or "
        f"the environment variable TRICKSTACK_DATA."
    )


def _part_folders(root: Path, test_folder: str) -> dict[str, Path]:
    wanted = {"train": "train", "test": test_folder} | ({} if test_folder == "val" else {"val": "val"})
    found = {part: root / name for part, name in wanted.items() if (root / name).is_dir()}
    if not found:
        return {"train": root}
    missing = [wanted[part] for part in ("train", "test") if part not in found]
    if missing:
        there = " and ".join(sorted(path.name for path in found.values()))
        raise ValueError(
            f"{root} has a folder {there}, but no {' and no '.join(missing)}. Add it, or put the classes' folders into "
            f"{root} themselves for a split by split_seed."
        )
    return {part: found[part] for part in PARTS if part in found}


def _shared_classes(root: Path, folders: dict[str, Path]) -> tuple[str, ...]:
    classes = {part: sorted(_subfolders(folder)) for part, folder in folders.items()}
    for part, folder in folders.items():
        if not classes[part]:
            raise ValueError(f"{folder} holds no images: it should have a folder for each class, and has no folders.")
    expected = set(classes["train"])
    for part in folders:
        more, fewer = sorted(set(classes[part]) - expected), sorted(expected - set(classes[part]))
        if more or fewer:
            which = [f"{_listed(names)} only in {place}" for names, place in ((fewer, "train"), (more, part)) if names]
            raise ValueError(
                f"{root}: the classes of train and {part} differ: {' and '.join(which)}. Give each the same folders."
            )
    return tuple(classes["train"])


def _subfolders(folder: Path) -> Iterator[str]:
    """Names of the folders in a folder, without hidden ones, which tools leave behind."""
    return (entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _listed(names: list[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
