"""Folders of identities: every folder that holds images is an identity, however deep it is."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from datamodules.retrieval import draw_queries
from datamodules.retrieval_files import IdentityFiles, RetrievalFiles, identity_files

_NAMED = 5  # files that a message names


class RetrievalFolder(RetrievalFiles):
    """Train on the identities of some folders, search among those of others.

    A folder below those named that holds images is an identity, whose name is its path. What is searched for and where
    is said by folders, or by two lists of files.

    Example::

        data = RetrievalFolder("omniglot", train=["Korean", "Balinese"], test=["Sanskrit", "Tagalog"], channels=1)

    Args:
        folder: The folder, below ``data_dir`` unless it is absolute.
        train: Folders in it whose identities are trained on.
        test: Folders in it whose identities are searched for; none if there are lists.
        queries_per_identity: Test images of each identity that are queries, the others being the gallery; None makes
            every image a query that ranks all others (leave-one-out). An identity with one image is gallery alone.
        query_list: Text file in the folder that names the queries, a path below the folder on each line.
        gallery_list: Likewise for what they rank. A file in both is not ranked by itself.
        settings: As in `RetrievalFiles`.

    Raises:
        FileNotFoundError: When there is no such folder or list, or files of a list are not there.
        ValueError: If an argument is out of range, or both folders and lists say what is searched for; when a folder
            holds no images, is for both training and test, and as `RetrievalFiles` says.
    """

    def __init__(
        self,
        folder: str,
        train: Sequence[str],
        test: Sequence[str] = (),
        queries_per_identity: int | None = None,
        query_list: str | None = None,
        gallery_list: str | None = None,
        **settings: Any,
    ) -> None:
        self.train_folders, self.test_folders = list(train), list(test)
        self.query_list, self.gallery_list = query_list, gallery_list
        super().__init__(folder, **settings)
        problems = [] if train else ["train names no folder"]
        lists = [name for name in (query_list, gallery_list) if name is not None]
        if not test and not lists:
            problems.append("test names no folder, and there is no query_list and gallery_list")
        if len(lists) == 1:
            problems.append(f"there is one of query_list and gallery_list, {lists[0]}, but both are needed")
        if test and lists:
            problems.append("both test and lists say what is searched for; leave one out")
        if queries_per_identity is not None and (queries_per_identity < 1 or lists):
            problems.append(
                f"queries_per_identity={queries_per_identity} must be at least 1, and there must be no lists"
            )
        if problems:
            raise ValueError(f"{type(self).__name__}: {'; '.join(problems)}.")
        self.queries_per_identity = queries_per_identity

    def selection(self) -> str:
        # Sorted, so that the images are decoded once whatever they are for.
        folders = sorted({*self.train_folders, *self.test_folders})
        return " ".join(map(repr, [*folders, self.query_list, self.gallery_list]))

    def find_files(self) -> IdentityFiles:
        train = self._images_below(self.train_folders)
        if self.query_list is None or self.gallery_list is None:
            tested = self._images_below(self.test_folders)
            parts = {"train": train, "query": tested, "gallery": tested}
        else:
            query, gallery = (read_list(self.root, name) for name in (self.query_list, self.gallery_list))
            parts = {"train": train, "query": query, "gallery": gallery}
        return identity_files(self.root, parts, folder_of)

    def locate(self, name: str) -> str:
        """Return the path below `root` of a folder that ``train`` or ``test`` names."""
        return name

    def queries_and_gallery(self) -> tuple[Tensor, Tensor]:
        query, gallery = super().queries_and_gallery()
        if self.queries_per_identity is None:
            return query, gallery
        generator = torch.Generator().manual_seed(self.split_seed)
        chosen = draw_queries(self.files.targets, query, self.queries_per_identity, generator)
        return query[chosen], query[~chosen]

    def _images_below(self, folders: list[str]) -> list[str]:
        return [path for folder in folders for path in find_below(self.root, self.locate(folder))]


def folder_of(path: str) -> str:
    """Return the folder of a file, which is its identity's name."""
    return Path(path).parent.as_posix()


def find_below(root: Path, folder: str) -> list[str]:
    """Find the images below a folder, by their paths below the root, but no hidden ones.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are no images in it.
    """
    if not (root / folder).is_dir():
        there = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.is_dir())) if root.is_dir() else ""
        raise FileNotFoundError(
            f"there is no folder {root / folder}. "
            + (f"{root} has {there}." if there else "Name another one with data_dir or TRICKSTACK_DATA.")
        )
    found = list(_walk(root, folder))
    if not found:
        raise ValueError(f"{root / folder} holds no images: none ends with {', '.join(IMG_EXTENSIONS)}.")
    return found


def _walk(root: Path, folder: str) -> Iterator[str]:
    for path, inside, files in os.walk(root / folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(IMG_EXTENSIONS) and not name.startswith("."):
                yield (Path(path) / name).relative_to(root).as_posix()


def read_list(root: Path, name: str) -> list[str]:
    """Read the paths that a list of files names, a line each.

    Args:
        root: The folder below which the list and the files are.
        name: Of the list.

    Raises:
        FileNotFoundError: If there is no list, or files are not there.
        ValueError: If it is empty, or names a file twice.
    """
    if not (root / name).is_file():
        raise FileNotFoundError(f"there is no list {root / name}.")
    lines = (root / name).read_text(encoding="utf-8").splitlines()
    paths = [Path(line.strip()).as_posix() for line in lines if line.strip()]
    if not paths:
        raise ValueError(f"{root / name} names no file.")
    if twice := len(paths) - len(set(paths)):
        raise ValueError(f"{root / name} names {twice} file(s) twice. Each may be in it once.")
    check_there(root, paths, f"of {root / name}")
    return paths


def check_there(root: Path, paths: Sequence[str], whose: str) -> None:
    """Refuse files that are not there; ``whose`` says for a message where they are named."""
    missing = [path for path in paths if not (root / path).is_file()]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} files {whose} are not there: {', '.join(missing[:_NAMED])}{more}."
        )
