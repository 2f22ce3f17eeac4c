"""Folders in the layout of Pascal VOC: ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import nn

from datamodules.detection.annotations import AnnotatedImages, BoxCollector, listed, refuse
from datamodules.detection.detection_data import DetectionDataModule
from datamodules.folders import data_root

Coordinates = Literal["one_based", "zero_based"]

_EDGES = ("xmin", "ymin", "xmax", "ymax")


class VOCFolder(DetectionDataModule):
    """Images with boxes from folders in the layout of Pascal VOC.

    A part is one or several lists of images, each named by its file in ``ImageSets/Main``, with a folder before it if
    there are several. Images without objects count; difficult objects are trained on and flagged.

    Example::

        VOCFolder(folder="bccd")
        VOCFolder(
            folder="VOCdevkit",
            train=["VOC2007/trainval", "VOC2012/trainval"],
            val=[],
            test=["VOC2007/test"],
            val_fraction=0.05,
        )

    Args:
        folder: Where the layout is, below ``data_dir``.
        data_dir: Folder of the data sets; by default ``$TRICKSTACK_DATA``, else ``data``.
        train: Lists of the training images.
        val: Lists of the validation images; empty holds out ``val_fraction`` of the training images.
        test: Lists of the test images.
        class_names: The classes; by default those of all objects in these lists, sorted, as Pascal VOC has them.
        coordinates: Whether the first pixel is 1, and a box includes its right and bottom pixels, as in Pascal VOC; or
            a box's edges are distances from the image's corner. A box with equal edges has no area in either.

    All others are those of `DetectionDataModule`.
    """

    def __init__(
        self,
        folder: str,
        data_dir: str | None = None,
        train: list[str] = ["train"],  # noqa: B006
        val: list[str] = ["val"],  # noqa: B006
        test: list[str] = ["test"],  # noqa: B006
        class_names: list[str] | None = None,
        coordinates: Coordinates = "one_based",
        input_size: int = 416,
        letterbox: bool = False,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        transforms: Sequence[nn.Module] = (),
        in_memory: bool = True,
        num_workers: int = 0,
        val_fraction: float = 0.0,
        split_seed: int = 0,
        mixes: Sequence[nn.Module] = (),
        mix_off_epochs: int = 0,
        normalize: bool = False,
    ) -> None:
        super().__init__(
            input_size,
            letterbox,
            batch_size,
            eval_batch_size,
            transforms,
            in_memory,
            num_workers,
            val_fraction,
            split_seed,
            mixes,
            mix_off_epochs,
            normalize,
        )
        if coordinates not in ("one_based", "zero_based"):
            raise ValueError(f"VOCFolder: coordinates is {coordinates!r}; it must be 'one_based' or 'zero_based'.")
        self.root = data_root(data_dir) / folder
        self.lists = {"train": list(train), "val": list(val), "test": list(test)}
        self.wanted_classes = class_names
        self.coordinates: Coordinates = coordinates

    def read_parts(self) -> dict[str, AnnotatedImages]:
        """Read all annotations.

        Raises:
            FileNotFoundError: If a list of images is missing.
            ValueError: If an annotation cannot be read, names no image or one that is missing, or has an object of no
                known class; if no box of a part has an area.
        """
        lists = {part: [_VOCList.read(self.root, name) for name in names] for part, names in self.lists.items()}
        every = [each for part in lists.values() for each in part]
        found = sorted({kind for each in every for annotation in each.annotations for kind in annotation.kinds})
        self.class_names = tuple(found if self.wanted_classes is None else self.wanted_classes)
        unknown = [kind for kind in found if kind not in self.class_names]
        if unknown:
            culprits = [
                annotation.file.name
                for each in every
                for annotation in each.annotations
                if not set(annotation.kinds) <= set(self.class_names)
            ]
            raise ValueError(
                f"{self.root}: objects of unknown class(es) {listed(unknown)}, in {listed(culprits)}. Known are "
                f"{listed(self.class_names)}; add them to class_names, or correct the files."
            )
        return {
            part: AnnotatedImages.join([each.collect(self.class_names, self.coordinates) for each in several])
            for part, several in lists.items()
            if several
        }


class _VOCAnnotation:
    """One XML file, checked."""

    def __init__(self, file: Path, images: Path, there: frozenset[str]) -> None:
        """Read the file.

        Raises:
            ValueError: In one sentence, if something is wrong with it.
        """
        self.file = file
        try:
            root = ElementTree.parse(file).getroot()
        except FileNotFoundError:
            raise ValueError(f"{file} is missing.") from None
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}.") from error
        except ElementTree.ParseError as error:
            raise ValueError(f"{file} is no XML: {error}.") from error
        name = (root.findtext("filename") or "").strip()
        if not name:
            raise ValueError(f"{file} names no image: it has no <filename>.")
        self.image = images / name
        if name not in there:
            raise ValueError(f"{file} names the image {self.image}, which is missing.")
        try:
            self.width, self.height = (int(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
            objects = root.findall("object")
            self.kinds = [(each.findtext("name") or "").strip() for each in objects]
            self.boxes = [[float(each.findtext(f"bndbox/{edge}") or "") for edge in _EDGES] for each in objects]
            self.difficult = [int(each.findtext("difficult") or 0) == 1 for each in objects]
        except ValueError:
            raise ValueError(f"{file} has a size, a <bndbox> or a <difficult> that is missing or no number.") from None
        if not all(math.isfinite(edge) for box in self.boxes for edge in box):
            raise ValueError(f"{file} has a <bndbox> with an edge that is no finite number.")
        if not all(self.kinds):
            raise ValueError(f"{file} has an <object> without a class: its <name> is missing or empty.")
        if min(self.width, self.height) < 1:
            raise ValueError(f"{file} gives no <size> of its image: width {self.width}, height {self.height}.")


class _VOCList:
    """The annotations of one list of images."""

    def __init__(self, file: Path, annotations: list[_VOCAnnotation]) -> None:
        self.file = file
        self.annotations = annotations

    @staticmethod
    def read(root: Path, name: str) -> "_VOCList":
        folder, _, part = name.rpartition("/")
        file = root / folder / "ImageSets" / "Main" / f"{part}.txt"
        if not file.is_file():
            raise FileNotFoundError(
                f"there is no list of images {file}. Put a folder in the layout of Pascal VOC there, or name another "
                f"with folder, data_dir or the environment variable TRICKSTACK_DATA."
            )
        try:
            stems = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is no text in UTF-8: {error.reason} at byte {error.start}.") from error
        images = root / folder / "JPEGImages"
        there = frozenset(path.name for path in images.iterdir()) if images.is_dir() else frozenset()
        annotations, problems = [], []
        for stem in stems:
            try:
                annotations.append(_VOCAnnotation(root / folder / "Annotations" / f"{stem}.xml", images, there))
            except ValueError as error:
                problems.append(str(error))
        refuse(file, problems)
        return _VOCList(file, annotations)

    def collect(self, class_names: Sequence[str], coordinates: Coordinates) -> AnnotatedImages:
        collector = BoxCollector(self.file)
        labels = {name: label for label, name in enumerate(class_names)}
        for annotation in self.annotations:
            collector.add_image(annotation.image, annotation.width, annotation.height)
            for box, kind, difficult in zip(annotation.boxes, annotation.kinds, annotation.difficult, strict=True):
                edges = _from_one(box) if coordinates == "one_based" else box
                collector.add_box(edges, labels[kind], difficult)
        return collector.finish()


def _from_one(box: Sequence[float]) -> list[float]:
    """Turn the first and last pixels of a box, counted from 1, into distances from the image's corner."""
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        return [left, top, left, top]
    return [left - 1, top - 1, right, bottom]
