"""Small folders of images with boxes, in the layouts of Pascal VOC and COCO."""

import json
from pathlib import Path
from typing import Any

from tests.datamodules.image_files import smooth_pixels, write_image

Box = tuple[str, tuple[float, float, float, float]]
"""Class, and left, top, right and bottom as the file has them."""


def write_annotation(
    root: Path, stem: str, boxes: list[Box], difficult: int = 0, size: tuple[int, int] = (64, 48)
) -> Path:
    objects = "".join(
        f"<object><name>{kind}</name><difficult>{difficult}</difficult><bndbox>"
        f"<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for kind, box in boxes
    )
    file = root / "Annotations" / f"{stem}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f"<annotation><filename>{stem}.png</filename><size><width>{size[0]}</width><height>{size[1]}</height>"
        f"<depth>3</depth></size>{objects}</annotation>"
    )
    return file


def write_voc(root: Path, parts: dict[str, dict[str, list[Box]]]) -> Path:
    """Write images of 64×48 pixels; by part and by image, its boxes."""
    for part, images in parts.items():
        for seed, (stem, boxes) in enumerate(images.items()):
            write_image(root / "JPEGImages" / f"{stem}.png", smooth_pixels(48, 64, seed))
            write_annotation(root, stem, boxes)
        lists = root / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{part}.txt").write_text("".join(f"{stem}\n" for stem in images))
    return root


def coco_content(annotations: list[dict[str, Any]], images: int = 2) -> dict[str, Any]:
    """Annotations for images of 64×48 pixels with ids 10, 11, …, and categories 3 (cat) and 7 (dog)."""
    return {
        "images": [{"id": 10 + n, "file_name": f"{n}.png", "width": 64, "height": 48} for n in range(images)],
        "annotations": [{"id": number, "iscrowd": 0, **each} for number, each in enumerate(annotations)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


def write_coco(root: Path, parts: dict[str, dict[str, Any]]) -> Path:
    """Write annotations, and the images that they name."""
    for part, content in parts.items():
        for seed, image in enumerate(content["images"]):
            write_image(root / part / image["file_name"], smooth_pixels(48, 64, seed))
        file = root / "annotations" / f"instances_{part}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return root
