"""The images of a folder, decoded once and kept in a cache."""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from datamodules.decoding import (
    BrokenImageError,
    decode_image,
    find_broken,
    fit_image,
    in_threads,
    quiet_torchvision,
)
from datamodules.folders import ImageFiles, find_images
from datamodules.image_cache import ImageCache, Made, warn_once
from datamodules.images import InMemoryImages
from datamodules.in_memory import content_hash

Size = int | tuple[int, int] | None

_NAMED = 5  # broken files that a message names


@dataclass(frozen=True)
class FolderSource:
    """A folder of images and how they are read.

    Args:
        root: The folder.
        channels: 3 for RGB, 1 for grey.
        image_size: Side of the square that every image becomes, or height and width to which it is stretched; None
            leaves them, and they must be of one size.
        broken: What becomes of a file that cannot be decoded: an error, or it is left out.
        cache_dir: Folder for what was made of the files; by default ``.trickstack`` beside the images' folder.
        test_folder: Name of the folder with the test images.

    Raises:
        ValueError: If ``channels`` or ``image_size`` is out of range.
    """

    root: Path
    channels: int
    image_size: Size
    broken: Literal["error", "skip"]
    cache_dir: str | None
    test_folder: str = "test"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels={self.channels} must be 3 for RGB or 1 for grey.")
        sides = (self.image_size,) if isinstance(self.image_size, int) else self.image_size or ()
        if any(side < 1 for side in sides):
            raise ValueError(f"image_size={self.image_size} must be at least 1, or null to leave images as they are.")
        if self.broken not in ("error", "skip"):
            raise ValueError(f"broken={self.broken!r} must be 'error' or 'skip'.")

    @functools.cached_property
    def found(self) -> ImageFiles:
        """All files, broken ones too."""
        return find_images(self.root, self.test_folder)

    def load(self) -> tuple[InMemoryImages, ImageFiles]:
        """Return all images, and their files; decoded once, and again only if a file has changed.

        Raises:
            ValueError: If files are broken and not to be left out, sizes differ, or files change meanwhile.
        """
        tensors, _ = self._images().get(self.found.stamp(), self._decode)
        files = self._leave_out(tensors["left_out"].tolist())
        return InMemoryImages(tensors["images"], files.targets), files

    def fingerprint(self) -> str:
        """SHA-256 of all images, their classes and parts; decodes only what no cache holds."""
        notes = self._images().notes(self.found.stamp())
        if notes is None:
            _, notes = self._images().get(self.found.stamp(), self._decode)
        return notes["content"]

    def find_intact(self) -> ImageFiles:
        """Return the files, without broken ones if these are to be left out, which takes decoding each file once."""
        if self.broken == "error":
            return self.found
        tensors, _ = self._cache("broken files").get(self.found.stamp(), self._check)
        return self._leave_out(tensors["left_out"].tolist())

    def _images(self) -> ImageCache:
        return self._cache(f"images {self.channels} {self.image_size} {self.broken}")

    def _cache(self, what: str) -> ImageCache:
        folder = Path(self.cache_dir).expanduser() if self.cache_dir else self.root.parent / ".trickstack"
        return ImageCache(folder, self.root, what)

    def _decode(self) -> Made:
        images, broken = decode_files(self.found, self.channels, self.image_size)
        if broken and self.broken == "error":
            raise ValueError(_describe_broken(self.found, broken))
        self._check_unchanged()
        if broken:
            kept = torch.ones(len(images), dtype=torch.bool)
            kept[list(broken)] = False
            images = images[kept]
        files = self.found.without(list(broken))
        parts = {part: len(indices) for part, indices in files.given.items()}
        content = [content_hash(InMemoryImages(images, files.targets)), files.class_names, parts]
        notes = {"content": hashlib.sha256(json.dumps(content).encode()).hexdigest()}
        return {"images": images, "left_out": torch.tensor(list(broken), dtype=torch.int64)}, notes

    def _check(self) -> Made:
        broken = find_broken([self.found.path(index) for index in range(len(self.found))], self.channels)
        self._check_unchanged()
        return {"left_out": torch.tensor(list(broken), dtype=torch.int64)}, {}

    def _check_unchanged(self) -> None:
        if find_images(self.root, self.test_folder).stamp() != self.found.stamp():
            raise ValueError(f"the images of {self.root} changed while they were read. Start again when they rest.")

    def _leave_out(self, broken: list[int]) -> ImageFiles:
        if not broken:
            return self.found
        names = ", ".join(self.found.names[index] for index in broken[:_NAMED])
        more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        warn_once(f"{len(broken)} of {len(self.found)} images of {self.root} are broken and left out: {names}{more}.")
        return self.found.without(broken)


def decode_files(files: ImageFiles, channels: int, image_size: Size) -> tuple[Tensor, dict[int, str]]:
    """Decode all files on all cores.

    Args:
        files: What to decode.
        channels: 3 for RGB, 1 for grey.
        image_size: As in `FolderSource`.

    Returns:
        Images ``(N, C, H, W)`` uint8, and the indices of broken files with what is wrong with them.

    Raises:
        ValueError: If no file can be decoded, or sizes differ and ``image_size`` is None.
    """
    broken: dict[int, str] = {}
    other_sizes: dict[int, tuple[int, ...]] = {}

    def decode(index: int) -> Tensor | None:
        try:
            image = decode_image(files.path(index), channels)
        except BrokenImageError as error:
            broken[index] = str(error)
            return None
        return fit_image(image, image_size)

    quiet_torchvision()
    decoded = ((index, decode(index)) for index in range(len(files)))
    first, image = next(((index, image) for index, image in decoded if image is not None), (-1, None))
    if image is None:
        raise ValueError(_describe_broken(files, broken))
    images = torch.empty((len(files), *image.shape), dtype=torch.uint8)

    def fill(index: int) -> None:
        read = decode(index)
        if read is None:
            return
        if read.shape != images.shape[1:]:
            other_sizes[index] = tuple(read.shape)
            return
        images[index] = read

    in_threads(fill, len(files))
    if other_sizes:
        other = min(other_sizes)
        raise ValueError(
            f"{files.root}: images differ in size: {files.names[first]} has {_size(image.shape)}, "
            f"{files.names[other]} has {_size(other_sizes[other])}. Set image_size to resize and crop them to a square."
        )
    return images, dict(sorted(broken.items()))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[-1]} x {shape[-2]} pixels"


def _describe_broken(files: ImageFiles, broken: dict[int, str]) -> str:
    reasons = "; ".join([broken[index] for index in sorted(broken)][:_NAMED])
    more = f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    return (
        f"{len(broken)} of {len(files)} images of {files.root} are broken: {reasons}{more}. "
        f"Replace them, or leave them out with broken='skip'."
    )
