"""Folders in the layout of COCO: ``annotations/instances_<part>.json`` and a folder of images for each part."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from datamodules.detection.annotations import AnnotatedImages, BoxCollector, listed, refuse
from datamodules.detection.detection_data import DetectionDataModule
from datamodules.folders import data_root

_FIELDS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"id": int, "image_id": int, "category_id": int},
    "categories": {"id": int, "name": str},
}
"""What each entry must have; the box of an annotation has a check of its own."""


class COCOFolder(DetectionDataModule):
    """Images with boxes from a folder in the layout of COCO (arXiv:1405.0312).

    Classes are the categories in the order of their ids, which may have gaps. Images without objects count; crowds are
    flagged.

    Example::

        COCOFolder(folder="coco", train="train2017", val=None, test="val2017", val_fraction=0.02)

    Args:
        folder: Where the layout is, below ``data_dir``.
        data_dir: Folder of the data sets; by default ``$TRICKSTACK_DATA``, else ``data``.
        train: Part with the training images.
        val: Part with the validation images; None holds out ``val_fraction`` of the training images.
        test: Part with the test images.

    All others are those of `DetectionDataModule`.
    """

    def __init__(
        self,
        folder: str,
        data_dir: str | None = None,
        train: str = "train2017",
        val: str | None = None,
        test: str = "val2017",
        input_size: int = 416,
        letterbox: bool = False,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        transforms: Sequence[nn.Module] = (),
        in_memory: bool = False,
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
        self.root = data_root(data_dir) / folder
        self.parts = {name: part for name, part in (("train", train), ("val", val), ("test", test)) if part is not None}

    def read_parts(self) -> dict[str, AnnotatedImages]:
        """Read all annotations.

        Raises:
            FileNotFoundError: If a file of annotations is missing.
            ValueError: If it cannot be read, has an id twice, or names an image, a class or a box that cannot be; if
                the parts differ in their classes, or no box of a part has an area.
        """
        categories: dict[int, str] | None = None
        parts = {}
        for name, part in self.parts.items():
            file = self.root / "annotations" / f"instances_{part}.json"
            content = _read_json(file)
            own = {category["id"]: category["name"] for category in content["categories"]}
            if categories is not None and own != categories:
                raise ValueError(f"{file} has other categories than the annotations of {self.parts['train']}.")
            categories = own
            parts[name] = _collect(file, content, self.root / part)
        assert categories is not None
        self.class_names = tuple(categories[number] for number in sorted(categories))
        return parts


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no file {file}. Put a folder in the layout of COCO there, or name another with folder, data_dir "
            f"or the environment variable TRICKSTACK_DATA."
        )
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}.") from error
    content = content if isinstance(content, dict) else {}
    missing = [key for key in _FIELDS if not isinstance(content.get(key), list)]
    if missing:
        raise ValueError(f"{file} has no list of {', '.join(missing)}: these are no COCO annotations.")
    refuse(file, [problem for key in _FIELDS for problem in _find_wrong_fields(key, content[key])])
    problems = []
    for key in _FIELDS:
        counts = Counter(entry["id"] for entry in content[key])
        twice = [str(number) for number, count in counts.items() if count > 1]
        if twice:
            problems.append(f"the id of {key} {listed(twice)} is there more than once.")
    refuse(file, problems)
    return content


def _find_wrong_fields(key: str, entries: list[Any]) -> list[str]:
    """Say which fields are missing or of another kind, entry by entry."""
    problems = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            problems.append(f"{key}[{place}] is {entry!r}; it must have {', '.join(_FIELDS[key])}.")
            continue
        for name, kind in _FIELDS[key].items():
            value = entry.get(name)
            is_side = name in ("width", "height")
            is_right = isinstance(value, kind) and not isinstance(value, bool)
            if not is_right or (is_side and isinstance(value, int) and value < 1):
                right = "a text" if kind is str else "a whole number from 1 up" if is_side else "a whole number"
                problems.append(f"{key}[{place}] has the {name} {value!r}; it must be {right}.")
    return problems


def _collect(file: Path, content: dict[str, Any], folder: Path) -> AnnotatedImages:
    labels = {number: label for label, number in enumerate(sorted(each["id"] for each in content["categories"]))}
    there = frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()
    problems = [
        f"the image {folder / image['file_name']} is missing."
        for image in content["images"]
        if image["file_name"] not in there
    ]
    known = {image["id"] for image in content["images"]}
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        problems += _find_problems(annotation, known, labels)
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    refuse(file, problems)

    collector = BoxCollector(file)
    for image in content["images"]:
        collector.add_image(folder / image["file_name"], image["width"], image["height"])
        for annotation in by_image.get(image["id"], []):
            left, top, width, height = annotation["bbox"]
            box = (left, top, left + width, top + height)
            collector.add_box(box, labels[annotation["category_id"]], crowd=bool(annotation.get("iscrowd", 0)))
    return collector.finish()


def _find_problems(annotation: dict[str, Any], images: set[int], labels: dict[int, int]) -> list[str]:
    number, box = annotation["id"], annotation.get("bbox")
    problems = []
    if annotation["image_id"] not in images:
        problems.append(f"annotation {number} is for the image_id {annotation['image_id']}, which no image has.")
    if annotation["category_id"] not in labels:
        problems.append(f"annotation {number} has the category_id {annotation['category_id']}, which no category has.")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        problems.append(f"annotation {number} has the bbox {box}; it must be four numbers: x, y, width, height.")
    return problems


def _is_finite(edge: Any) -> bool:
    return isinstance(edge, int | float) and not isinstance(edge, bool) and math.isfinite(edge)
