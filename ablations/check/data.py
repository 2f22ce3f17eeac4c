"""Diagnostics of the data: labels, classes, values, and images that occur in several splits."""

from itertools import combinations
from typing import Any

import numpy as np
import torch

from ablations.check.finding import Seen, diagnostic
from ablations.check.needs import CLASSES, IMAGES_IN_MEMORY, LABELS
from ablations.check.subject import Subject

IMBALANCE = 10
"""A class with this many times as many images as another one."""

LARGEST_MEAN, SMALLEST_SD, LARGEST_SD = 3.0, 0.02, 4.0
"""Values in [0, 1] and normalized ones lie well within, 0 to 255 and nearly constant images do not."""

SPLITS = ("train", "val", "test")


@diagnostic("label range", LABELS, CLASSES)
def label_range(subject: Subject) -> Seen:
    """Whether every label names a class."""
    classes = _count_classes(subject)
    ranges = {name: (int(part.targets.min()), int(part.targets.max())) for name, part in _splits(subject).items()}
    low, high = min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())
    text = f"labels {low} to {high}, {classes} classes"
    wrong = [name for name, (low, high) in ranges.items() if low < 0 or high >= classes]
    if not wrong:
        return Seen(text)
    return Seen(
        f"{text} (wrong in {', '.join(wrong)})",
        f"Labels must run from 0 to {classes - 1}. Count them from 0, or correct the number of classes.",
    )


@diagnostic("class balance", LABELS, CLASSES)
def class_balance(subject: Subject) -> Seen:
    """Whether the classes have about as many training images each."""
    counts = torch.bincount(_splits(subject)["train"].targets, minlength=_count_classes(subject))
    least, most = int(counts.min()), int(counts.max())
    text = f"{least} to {most} training images a class"
    if least == 0:
        missing = (counts == 0).nonzero().flatten().tolist()
        return Seen(
            f"{text}, none in {missing}", "A class that is never seen is never learnt. Look at labels and split."
        )
    if most >= IMBALANCE * least:
        rare = int(counts.argmin())
        return Seen(
            f"{text}, fewest in class {rare}",
            f"Rare classes weigh {most / least:.0f} times less than frequent ones. Draw them more often or give them a "
            "higher weight in the loss, and look at the accuracy of each class.",
        )
    return Seen(text)


@diagnostic("duplicates between splits", IMAGES_IN_MEMORY)
def duplicates(subject: Subject) -> Seen:
    """Whether an image of one split is, pixel by pixel, in another one too."""
    found = {name: _distinct_images(part.images) for name, part in _splits(subject).items()}
    shared = {(a, b): len(found[a] & found[b]) for a, b in combinations(found, 2)}
    total = sum(shared.values())
    images = sum(len(part.images) for part in _splits(subject).values())
    if not total:
        return Seen(f"none among {images} images")
    pairs = ", ".join(f"{count} in {a} and {b}" for (a, b), count in shared.items() if count)
    return Seen(
        f"{total} images in two splits: {pairs}",
        "Scores on images that were trained on say nothing. Remove these images from the training set.",
    )


@diagnostic("values of the images")
def image_values(subject: Subject) -> Seen:
    """Whether the images that the module sees have values of a sensible size."""
    channels = subject.first_steps.channels
    if not channels:
        return Seen("batches do not begin with images (N, C, H, W)")
    means, sds = zip(*channels, strict=True)
    text = f"mean {_span(means)}, standard deviation {_span(sds)} by channel"
    if not all(np.isfinite(channels).flatten()):
        return Seen(text, "The images are not finite. Look at the data, its transforms and its normalization.")
    if max(map(abs, means)) > LARGEST_MEAN or min(sds) < SMALLEST_SD or max(sds) > LARGEST_SD:
        return Seen(
            text,
            f"Networks expect means up to {LARGEST_MEAN:g} in size and standard deviations from {SMALLEST_SD:g} to "
            f"{LARGEST_SD:g}. Scale the values to [0, 1], or normalize them with the training images' statistics.",
        )
    return Seen(text)


def _count_classes(subject: Subject) -> int:
    return int(subject.parts.datamodule.num_classes)  # type: ignore[attr-defined]  # the need says that it is there


def _splits(subject: Subject) -> dict[str, Any]:
    sets = subject.parts.datamodule.sets  # type: ignore[attr-defined]  # the need says that it is there
    return {name: sets[name] for name in SPLITS if name in sets}


def _distinct_images(images: torch.Tensor) -> set[bytes]:
    return {image.tobytes() for image in images.contiguous().numpy()}


def _span(values: tuple[float, ...]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
