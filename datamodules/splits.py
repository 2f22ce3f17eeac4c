"""Seeded splits: which images are for training, validation and test.

All parts are cut from one order in which every stretch holds the classes in their shares. Test and validation images
come from its end and training images from its start, so more training images add to the fewer and replace none, and
their number changes neither validation nor test.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class SplitSizes:
    """How many images each part takes.

    Args:
        val: Validation images, a number or a share of all that are not given for another part.
        test: Test images, likewise.
        train: Training images; `None` is all that are left.
        train_per_class: Training images of each class, in place of ``train``.
        seed: Decides which images.

    Raises:
        ValueError: If a size is out of range, or ``train`` and ``train_per_class`` are both set.
    """

    val: int | float
    test: int | float = 0
    train: int | None = None
    train_per_class: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"{name}_size={size} must be a number of images, from 1, or a share between 0 and 1"
            for name, size in (("val", self.val), ("test", self.test))
            if not (0 < size < 1 if isinstance(size, float) else size >= (1 if name == "val" else 0))
        ]
        for name, count in (("train_size", self.train), ("labels_per_class", self.train_per_class)):
            if count is not None and count < 1:
                problems.append(f"{name}={count} must be at least 1")
        if self.train is not None and self.train_per_class is not None:
            problems.append(f"train_size={self.train} and labels_per_class={self.train_per_class} exclude each other")
        if not 0 <= self.seed < 2**32:
            problems.append(f"split_seed={self.seed} must be from 0 to {2**32 - 1}")
        if problems:
            raise ValueError(f"{'; '.join(problems)}.")


def mixed_order(targets: Tensor, seed: int) -> Tensor:
    """Put images into a random order in which every stretch holds the classes in their shares.

    Args:
        targets: Class of each image, ``(N,)``.
        seed: Decides the order.

    Returns:
        Indices, ``(N,)``: the j-th of a class's n images stands where the share (j + 1/2) / n of all have gone by.
    """
    # RandomState, because numpy promises that its numbers will never change.
    shuffled = np.random.RandomState(seed).permutation(len(targets))
    labels = targets.numpy()[shuffled]
    counts = np.bincount(labels)
    by_class = np.argsort(labels, kind="stable")
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return torch.from_numpy(shuffled[np.argsort((ranks + 0.5) / counts[labels], kind="stable")])


def split_images(targets: Tensor, given: dict[str, Tensor], sizes: SplitSizes) -> tuple[dict[str, Tensor], Tensor]:
    """Split images of which some may be given their part already.

    Args:
        targets: Classes of all images, ``(N,)``.
        given: Indices of the images of ``train``, and of ``val`` and ``test`` where they are not to be taken from it.
        sizes: How many images each part takes.

    Returns:
        The indices of ``train``, ``val`` and ``test``, and those of the images that would be for training but are
        beyond the number asked for.

    Raises:
        ValueError: If there are fewer images than asked for, of a class or in all.
    """
    pool = given["train"][mixed_order(targets[given["train"]], sizes.seed)]
    parts, available = {}, len(pool)
    for name, size in (("test", sizes.test), ("val", sizes.val)):
        if name in given:
            parts[name] = given[name]
            continue
        count = max(1, round(size * available)) if isinstance(size, float) else size
        if count >= len(pool):
            raise ValueError(f"{name}_size={size} leaves no training image of {len(pool)}. Set it lower.")
        pool, parts[name] = pool[:-count], pool[-count:]
    if sizes.train is not None and sizes.train > len(pool):
        raise ValueError(f"train_size={sizes.train} is more than the {len(pool)} images left for training.")
    chosen = torch.zeros(len(pool), dtype=torch.bool)
    if sizes.train_per_class is None:
        chosen[: sizes.train] = True
    else:
        chosen = _first_of_each_class(targets[pool], sizes.train_per_class)
    return {"train": pool[chosen], "val": parts["val"], "test": parts["test"]}, pool[~chosen]


def first_share(targets: Tensor, share: float) -> Tensor:
    """Choose the first images of each class: this share of them, rounded up.

    Args:
        targets: Class of each image, ``(N,)``.
        share: Above 0, up to 1.

    Returns:
        Which are chosen, ``(N,)`` bool.
    """
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    for label in targets.unique():
        places = (targets == label).nonzero().flatten()
        chosen[places[: math.ceil(round(share * len(places), 6))]] = True
    return chosen


def _first_of_each_class(targets: Tensor, count: int) -> Tensor:
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    for label in targets.unique():
        places = (targets == label).nonzero().flatten()
        if len(places) < count:
            raise ValueError(f"labels_per_class={count} is more than the {len(places)} images left of class {label}.")
        chosen[places[:count]] = True
    return chosen
