"""The objects of a detection data set as images of their own, for a classifier."""

import re
from pathlib import Path

from torch import Tensor
from torchvision.io import write_png
from torchvision.transforms.v2 import functional

from datamodules.decoding import quiet_torchvision
from datamodules.detection.annotations import AnnotatedImages
from datamodules.detection.detection_data import DetectionDataModule


def write_crops(data: DetectionDataModule, folder: Path, size: int = 32, margin: float = 0.0) -> dict[str, int]:
    """Cut every object out of its image, and store it where an image folder has it: part, class, file.

    Crowds and difficult objects are left out. The folders of the classes begin with the class's number, so that an
    image folder finds the classes in the detector's order.

    Example::

        write_crops(VOCFolder("bccd", input_size=192), Path("crops"))
        InMemoryImageFolder("crops")

    Args:
        data: The data set.
        folder: Where; it must not exist yet.
        size: Side of the crops in pixels.
        margin: How much more than the box is cut out, as a share of its sides, on each of them.

    Returns:
        How many crops each part of the data set gave.

    Raises:
        FileExistsError: If there is the folder already.
        ValueError: If ``size`` is below 1 or ``margin`` below 0.
    """
    if size < 1 or not margin >= 0:
        raise ValueError(f"write_crops: size is {size} and margin {margin}; they must be at least 1 and 0.")
    parts = data.read_parts()
    digits = len(str(len(data.class_names) - 1))
    cleaned = [re.sub(r"[^\w-]", "_", name) for name in data.class_names]  # a class may have any name, a folder not
    names = [f"{index:0{digits}}_{name}" for index, name in enumerate(cleaned)]
    folder.mkdir(parents=True)
    quiet_torchvision()
    return {name: _write_part(part, folder / name, names, size, margin) for name, part in parts.items()}


def _write_part(part: AnnotatedImages, folder: Path, names: list[str], size: int, margin: float) -> int:
    for name in names:
        (folder / name).mkdir(parents=True)
    count = 0
    for index in range(len(part)):
        image, truths = part.images[index], part.boxes_of(index)
        kept = ~(truths["crowd"] | truths["difficult"])
        for place, (box, label) in enumerate(zip(truths["boxes"][kept], truths["labels"][kept].tolist(), strict=True)):
            crop = functional.resize(_cut_out(image, box, margin), [size, size], antialias=True)
            write_png(crop, str(folder / names[label] / f"{index:06}_{place}.png"))
            count += 1
    return count


def _cut_out(image: Tensor, box: Tensor, margin: float) -> Tensor:
    """Return what lies in a box, grown by a margin, of an image ``(3, H, W)``; at least a pixel."""
    margins = (box[2:] - box[:2]) * margin
    left, top = (box[:2] - margins).floor().clamp(min=0).long().tolist()
    right, bottom = (box[2:] + margins).ceil().long().tolist()
    return image[:, top : max(bottom, top + 1), left : max(right, left + 1)]
