"""Batches of P identities with K images each, on every process.

A sampler that draws such batches for one process gives others broken ones: Lightning deals the flat list of indices
out by rank, and drops a batch sampler without a word. This one knows the processes. A step of all of them is drawn
together and cut into equal parts, so the two processes of a training with P identities each see what one process with
2 P sees. Everything is a function of (seed, epoch, rank).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

FewImages = Literal["error", "repeat"]


class PKSampler(DistributedSampler[Any]):
    """Gives indices such that every P x K in a row are P identities with K different images each (arXiv:1703.07737).

    An epoch draws groups of K images without replacement from each identity, what is left of it being left out, and
    is as many steps long as these groups fill. No identity is twice in a step, over all processes. If one has more
    groups than there can be steps, the rest of them is left out.

    Args:
        identities: Identity of each image, ``(N,)``.
        identities_per_batch: P, in each process.
        images_per_identity: K.
        num_replicas: Number of processes.
        rank: Which of them this is.
        seed: Of the order.
        few_images: An identity with fewer than K images is an ``"error"``, or ``"repeat"`` draws its images again, each
            as often as the others to within one.
        names: What messages call the identities, by their number; by default the number itself.

    Raises:
        ValueError: If P or K is below 1, there are fewer identities than all processes together take in a step, or
            an identity has fewer than K images and shall not.
    """

    def __init__(
        self,
        identities: Tensor,
        identities_per_batch: int,
        images_per_identity: int,
        num_replicas: int,
        rank: int,
        seed: int,
        few_images: FewImages = "error",
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(identities, num_replicas, rank, seed=seed)  # type: ignore[arg-type]
        labels, counts = identities.unique(return_counts=True)
        check_batches(labels, counts, identities_per_batch, images_per_identity, num_replicas, few_images, names)
        self.members = identities.argsort(stable=True).split(counts.tolist())
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.groups = (counts // images_per_identity).clamp(min=1)
        self.steps = count_steps(self.groups, identities_per_batch * num_replicas)

    def __len__(self) -> int:
        return self.steps * self.identities_per_batch * self.images_per_identity

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        groups = [self._draw_groups(members, generator) for members in self.members]
        taken = [0] * len(groups)
        order = []
        for together in draw_steps(self.groups, self.steps, self.identities_per_batch * self.num_replicas, generator):
            first = self.rank * self.identities_per_batch
            for place, identity in enumerate(together.tolist()):
                if first <= place < first + self.identities_per_batch:
                    order += groups[identity][taken[identity]].tolist()
                taken[identity] += 1
        return iter(order)

    def _draw_groups(self, members: Tensor, generator: torch.Generator) -> Tensor:
        """Draw groups of K images of one identity, ``(groups, K)``."""
        size = self.images_per_identity
        turns = max(1, -(-size // len(members)))
        drawn = torch.cat([members[torch.randperm(len(members), generator=generator)] for _ in range(turns)])
        return drawn[: max(1, len(members) // size) * size].view(-1, size)


def check_batches(
    labels: Tensor,
    counts: Tensor,
    identities_per_batch: int,
    images_per_identity: int,
    processes: int,
    few: FewImages,
    names: Sequence[str] | None = None,
) -> None:
    """Refuse batches that cannot be filled.

    Args:
        labels: The identities, ``(I,)``.
        counts: How many images each has, ``(I,)``.
        identities_per_batch: P, in each process.
        images_per_identity: K.
        processes: Number of processes.
        few: See `PKSampler`.
        names: See there.

    Raises:
        ValueError: As `PKSampler` says.
    """
    if few not in ("error", "repeat"):
        raise ValueError(f"few_images={few!r} must be 'error' or 'repeat'.")
    if identities_per_batch < 1 or images_per_identity < 1:
        raise ValueError(
            f"identities_per_batch={identities_per_batch} and images_per_identity={images_per_identity} must be at "
            f"least 1."
        )
    problems = []
    if identities_per_batch * processes > len(labels):
        problems.append(
            f"identities_per_batch={identities_per_batch} on {processes} process(es) takes "
            f"{identities_per_batch * processes} identities a step, but there are {len(labels)}. "
            + (
                f"Set it to at most {len(labels) // processes}."
                if len(labels) >= processes
                else f"Train on at most {len(labels)} process(es)."
            )
        )
    rare = labels[counts < images_per_identity].tolist()
    if rare and few == "error":
        named = ", ".join(str(names[label] if names else label) for label in rare[:5]) + (
            f" and {len(rare) - 5} more" if len(rare) > 5 else ""
        )
        who = "1 identity has" if len(rare) == 1 else f"{len(rare)} identities have"
        problems.append(
            f"{who} fewer than images_per_identity={images_per_identity} images, the fewest {int(counts.min())}: "
            f"{named}. Set images_per_identity lower, or few_images='repeat' to draw images again."
        )
    if problems:
        raise ValueError(" ".join(problems))


def count_steps(groups: Tensor, width: int) -> int:
    """Return how many steps of ``width`` different identities the groups ``(I,)`` of the identities can fill."""
    least, most = 0, int(groups.sum()) // width
    while least < most:
        middle = (least + most + 1) // 2
        if int(groups.clamp(max=middle).sum()) >= middle * width:
            least = middle
        else:
            most = middle - 1
    return least


def draw_steps(groups: Tensor, steps: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw which identities are in each step, ``(steps, width)``, none twice in one.

    Each step takes those with the most groups left, of equals at random, which never ends in a dead end; then the
    steps are shuffled. With equally many groups an identity comes again only after all others have come.
    """
    left = groups.clamp(max=steps).double()
    chosen = torch.empty(steps, width, dtype=torch.int64)
    for step in range(steps):
        chance = torch.rand(len(groups), generator=generator, dtype=torch.float64)
        best = (left + chance).topk(width).indices
        chosen[step] = best[torch.randperm(width, generator=generator)]
        left[best] -= 1
    return chosen[torch.randperm(steps, generator=generator)]


def check_composition(identities: Tensor, identities_per_batch: int, images_per_identity: int) -> None:
    """Refuse a batch that is not of P identities with K images each.

    Args:
        identities: Of the batch, ``(B,)``.
        identities_per_batch: P.
        images_per_identity: K.

    Raises:
        RuntimeError: If it is not.
    """
    counts = identities.unique(return_counts=True)[1]
    if len(counts) != identities_per_batch or bool((counts != images_per_identity).any()):
        raise RuntimeError(
            f"The first training batch has {len(counts)} identities with {int(counts.min())} to {int(counts.max())} "
            f"images each, but {identities_per_batch} with {images_per_identity} each are asked for. Something has "
            f"replaced the loader's sampler: let the data module make the loader."
        )
