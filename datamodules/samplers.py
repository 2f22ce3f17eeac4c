"""The order of the training images, a function of (seed, epoch, rank) alone.

Lightning leaves a loader's sampler alone under DDP only if it is a `DistributedSampler`, so these are.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler


def batch_order_seed(seed: int, stream: int | None = None) -> int:
    """Turn the seed of a training into that of its batch order, far from the one that the next seed gives.

    `DistributedSampler` adds the epoch to its seed. Without mixing, epoch 1 of seed 0 would be epoch 0 of seed 1.

    Args:
        seed: The seed of the training.
        stream: Another order for the same seed, for images that are read beside the labeled ones.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=() if stream is None else (stream,))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


class Draw(NamedTuple):
    """One training image in one epoch, with all that its random transforms may depend on.

    Args:
        image: Index of the image.
        seed: Of the order of the images.
        epoch: In which epoch.
        place: At which place of the epoch's order, over all processes: an image that is drawn twice has two.
    """

    image: int
    seed: int
    epoch: int
    place: int

    def random_seed(self) -> int:
        """Seed of the random transforms of this image at this place, whichever worker makes it."""
        sequence = np.random.SeedSequence(self.seed, spawn_key=(self.epoch, self.place))
        return int(sequence.generate_state(1, np.uint64)[0])


class TrainingSampler(DistributedSampler[Any]):
    """Shuffles the images anew each epoch and deals them to the processes, equally many to each.

    Args:
        targets: Class of each image, ``(N,)``.
        num_replicas: Number of processes.
        rank: Which of them this is.
        seed: Of the order.
        class_balanced: Draw every class equally often, instead of every image (class-aware sampling, arXiv:1512.05830).
            An epoch is as long as without; images of rare classes come several times in it.
        as_draws: Give a `Draw` for each image in place of its index.
        repeats: How often an image comes in a row, each time with another draw of the random transforms: repeated
            augmentation (arXiv:1902.05509). An epoch is as long as without, so it has fewer images.

    Raises:
        ValueError: If ``repeats`` is below 1, or above 1 with balanced classes.
    """

    def __init__(
        self,
        targets: Tensor,
        num_replicas: int,
        rank: int,
        seed: int,
        class_balanced: bool = False,
        as_draws: bool = False,
        repeats: int = 1,
    ) -> None:
        if repeats < 1:
            raise ValueError(f"repeats={repeats} must be at least 1.")
        if repeats > 1 and class_balanced:
            raise ValueError(f"repeats={repeats} and class_balanced=True each decide which images come. Drop one.")
        super().__init__(targets, num_replicas, rank, shuffle=True, seed=seed, drop_last=True)  # type: ignore[arg-type]
        self.targets = targets
        self.class_balanced = class_balanced
        self.as_draws = as_draws
        self.repeats = repeats

    def __iter__(self) -> Iterator[Any]:
        if self.class_balanced:
            indices = self._balanced()
        else:
            indices = self._repeated() if self.repeats > 1 else super().__iter__()
        if not self.as_draws:
            return indices
        places = range(self.rank, self.total_size, self.num_replicas)
        return (Draw(index, self.seed, self.epoch, place) for index, place in zip(indices, places, strict=True))

    def _repeated(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.targets), generator=generator).repeat_interleave(self.repeats)
        return iter(order[self.rank : self.total_size : self.num_replicas].tolist())

    def _balanced(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = class_balanced_order(self.targets, self.total_size, generator)
        return iter(order[self.rank :: self.num_replicas].tolist())


def class_balanced_order(targets: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw images so that each class comes equally often, and within a class each image, both to within one.

    Of K classes, every K draws in a row from the start hold each class once.

    Args:
        targets: Class of each image, ``(N,)``.
        count: How many to draw.
        generator: Decides the draws.

    Returns:
        Indices of the images, ``(count,)``.
    """
    members = targets.argsort(stable=True).split(targets.unique(return_counts=True)[1].tolist())
    rounds = -(-count // len(members))
    classes = torch.rand(rounds, len(members), generator=generator).argsort(1).flatten()[:count]
    places = classes.argsort(stable=True).split(classes.bincount(minlength=len(members)).tolist())
    order = torch.empty(count, dtype=torch.int64)
    for images, held in zip(members, places, strict=True):
        turns = -(-len(held) // len(images))
        drawn = torch.rand(turns, len(images), generator=generator).argsort(1).flatten()[: len(held)]
        order[held] = images[drawn]
    return order
