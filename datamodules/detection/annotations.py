"""Images and their boxes as plain tensors, and what is done about boxes that cannot be."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.decoding import decode_image

log = logging.getLogger(__name__)

_SHOWN = 5


class ImagePaths:
    """Image files, decoded when they are asked for.

    Args:
        paths: The files.
        sizes: Width and height that the annotations give for each, ``(N, 2)``.
    """

    def __init__(self, paths: Sequence[Path], sizes: Tensor) -> None:
        # One array of bytes: a list of strings would be copied by and by into each worker, as its counts are touched.
        self.paths = np.array([os.fsencode(path) for path in paths])
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Decode an image to ``(3, H, W)`` uint8.

        Raises:
            ValueError: If it is not of the size that its annotations say, so that its boxes would lie elsewhere.
        """
        image = decode_image(self.path(index), channels=3)
        width, height = self.sizes[index].tolist()
        if image.shape[1:] != (height, width):
            raise ValueError(
                f"{self.path(index)} has {image.shape[2]}×{image.shape[1]} pixels, but its boxes are for "
                f"{width}×{height}. Correct the size in the annotations, or replace the image."
            )
        return image

    def path(self, index: int) -> Path:
        return Path(os.fsdecode(bytes(self.paths[index])))

    def take(self, indices: Tensor) -> "ImagePaths":
        return ImagePaths([self.path(index) for index in indices.tolist()], self.sizes[indices])


@dataclass(frozen=True)
class AnnotatedImages:
    """Images and their boxes.

    Args:
        images: ``(N, 3, H, W)`` uint8, or files.
        boxes: Of all images, one after the other: left, top, right, bottom in pixels from 0, ``(B, 4)``.
        labels: Class of each box, ``(B,)``.
        difficult: Boxes that a score should leave out, ``(B,)``.
        crowd: Boxes around many objects, ``(B,)``.
        starts: First box of each image, and the number of boxes, ``(N + 1,)``.
    """

    images: Tensor | ImagePaths
    boxes: Tensor
    labels: Tensor
    difficult: Tensor
    crowd: Tensor
    starts: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def boxes_of(self, index: int) -> dict[str, Tensor]:
        """Return ``boxes`` ``(n, 4)``, and ``labels``, ``difficult`` and ``crowd``, each ``(n,)``, of an image."""
        start, end = self.starts[index : index + 2].tolist()
        parts = {"boxes": self.boxes, "labels": self.labels, "difficult": self.difficult, "crowd": self.crowd}
        return {name: part[start:end] for name, part in parts.items()}

    def take(self, indices: Tensor) -> "AnnotatedImages":
        """The images at ``indices`` with their boxes."""
        counts = self.starts.diff()[indices]
        rows = torch.cat([torch.arange(*self.starts[index : index + 2].tolist()) for index in indices.tolist()])
        images = self.images[indices] if isinstance(self.images, Tensor) else self.images.take(indices)
        return AnnotatedImages(
            images, self.boxes[rows], self.labels[rows], self.difficult[rows], self.crowd[rows], _starts(counts)
        )

    @staticmethod
    def join(parts: Sequence["AnnotatedImages"]) -> "AnnotatedImages":
        """Put images in files one part behind the other."""
        paths = [part.images for part in parts if isinstance(part.images, ImagePaths)]
        images = ImagePaths(
            [each.path(index) for each in paths for index in range(len(each))],
            torch.cat([each.sizes for each in paths]),
        )
        columns = ("boxes", "labels", "difficult", "crowd")
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in columns}
        return AnnotatedImages(images, **joined, starts=_starts(torch.cat([part.starts.diff() for part in parts])))


def _starts(counts: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])


@dataclass
class BoxCollector:
    """Gathers the boxes of image files, and cleans them when all are there.

    Args:
        source: What the boxes are from, for messages.
    """

    source: Path
    paths: list[Path] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    boxes: list[Sequence[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    def add_image(self, path: Path, width: int, height: int) -> None:
        self.paths.append(path)
        self.sizes.append((width, height))

    def add_box(self, box: Sequence[float], label: int, difficult: bool = False, crowd: bool = False) -> None:
        """Add a box of the image that was added last: left, top, right, bottom in pixels from 0."""
        self.boxes.append(box)
        self.labels.append(label)
        self.difficult.append(difficult)
        self.crowd.append(crowd)
        self.owners.append(len(self.paths) - 1)

    def finish(self) -> AnnotatedImages:
        """Clip boxes to their images, drop those without area, and log how many of each there were.

        Raises:
            ValueError: If there are no images, or no box is left.
        """
        if not self.paths:
            raise ValueError(f"{self.source} names no images.")
        boxes = torch.tensor(self.boxes, dtype=torch.float32).view(-1, 4)
        owners = torch.tensor(self.owners, dtype=torch.int64)
        sizes = torch.tensor(self.sizes, dtype=torch.int64)
        clipped = boxes.clamp(min=0).minimum(sizes[owners].repeat(1, 2).float())
        kept = (clipped[:, 2:] > clipped[:, :2]).all(1)
        if not kept.any():
            raise ValueError(f"{self.source}: of {len(boxes)} box(es) none has an area inside its image.")
        over = (clipped != boxes).any(1) & kept
        self._say("without area inside the image dropped", owners[~kept])
        self._say("over the border clipped to the image", owners[over])
        labels, difficult, crowd = (torch.tensor(each)[kept] for each in (self.labels, self.difficult, self.crowd))
        counts = owners[kept].bincount(minlength=len(self.paths))
        images = ImagePaths(self.paths, sizes)
        return AnnotatedImages(images, clipped[kept], labels, difficult, crowd, _starts(counts))

    def _say(self, what: str, owners: Tensor) -> None:
        if len(owners):
            names = [self.paths[index].name for index in owners.unique().tolist()]
            log.warning("%s: %d box(es) %s, in %s.", self.source, len(owners), what, listed(names))


def listed(names: Sequence[str]) -> str:
    """Name a few, and say how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def refuse(source: Path, problems: Sequence[str]) -> None:
    """Raise one ValueError that says all problems, the first few in full.

    Raises:
        ValueError: If there are any.
    """
    if problems:
        more = f" And {len(problems) - _SHOWN} more problems." if len(problems) > _SHOWN else ""
        raise ValueError(f"{source}: " + " ".join(problems[:_SHOWN]) + more)
