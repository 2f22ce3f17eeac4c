"""What all retrieval data sets share: training on identities, evaluation by queries and a gallery of others."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from datamodules.images import Batch
from datamodules.in_memory import InMemoryDataModule
from datamodules.pk_sampler import FewImages, PKSampler, check_composition
from datamodules.samplers import batch_order_seed

log = logging.getLogger(__name__)

QUERY, GALLERY = 1, 2
"""Roles of an image in evaluation; one that has both ranks all others (leave-one-out)."""

UNKNOWN_CAMERA = -1

_BEFORE_THE_TEST = ("train", "val_query", "val_gallery")
_IN_THE_TEST = ("test_query", "test_gallery")


class RetrievalEntries(Dataset[Batch]):
    """Images and what is known of them, read a whole batch at a time.

    Args:
        images: ``(N, C, H, W)`` uint8, or `FileImages`.
        targets: In evaluation ``(N, 3)`` int64: identity, camera (-1 is unknown) and role (1 query, 2 gallery, 3 both).
            In training labels ``(N,)``.
    """

    def __init__(self, images: Any, targets: Tensor) -> None:
        self.images = images
        self.targets = targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return self.images[index], self.targets[index]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Images ``(B, C, H, W)`` and their targets, a batch; `DataLoader` prefers this to single items."""
        rows = torch.as_tensor(indices)
        return self.images.index_select(0, rows), self.targets.index_select(0, rows)


class RetrievalDataModule(InMemoryDataModule):
    """Base of the retrieval data sets. A subclass says how to load images and which are queries and gallery.

    Training batches are P identities with K images each, on every process, and the first one is checked. Their
    targets are labels from 0, in the order of the identities. Those of evaluation are ``(B, 3)``: identity, camera and
    role, see `RetrievalEntries`.

    A subclass's `load` has identities as targets, and its `split` the parts ``train``, ``val_query``, ``val_gallery``,
    ``test_query`` and ``test_gallery``, where the same image may be query and gallery. Those of validation may be
    empty: then there is none. A query without a right entry is counted and said, and belongs to no score.

    Args:
        identities_per_batch: P, in each process.
        images_per_identity: K.
        few_images: An identity with fewer than K images is an ``"error"``, or ``"repeat"`` draws its images again.
        eval_batch_size: As in `ImageDataModule`, and so are the others.
        transforms: See there.
        normalize: See there.

    Raises:
        ValueError: If P, K or a size is below 1.
    """

    def __init__(
        self,
        identities_per_batch: int = 16,
        images_per_identity: int = 4,
        few_images: FewImages = "error",
        eval_batch_size: int = 512,
        transforms: Sequence[nn.Module] = (),
        normalize: bool = False,
    ) -> None:
        if identities_per_batch < 1 or images_per_identity < 1:
            raise ValueError(
                f"{type(self).__name__}: identities_per_batch={identities_per_batch} and "
                f"images_per_identity={images_per_identity} must be at least 1."
            )
        batch_size = identities_per_batch * images_per_identity
        super().__init__(batch_size, eval_batch_size, transforms, normalize=normalize)
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.few_images: FewImages = few_images
        self._checked = False

    @abstractmethod
    def name_identities(self, identities: list[int]) -> tuple[str, ...]:
        """Return the names of identities, after `load`."""

    def cameras(self, identities: Tensor) -> Tensor:
        """Return the camera of each image, ``(N,)``, after `load`: unknown, here."""
        return torch.full_like(identities, UNKNOWN_CAMERA)

    def make_sets(self) -> dict[str, Any]:
        """Make the data sets.

        Raises:
            ValueError: If identities are both in training or validation and in the test, or no query of a part has a
                right entry.
        """
        source: Any = self.load()
        identities, parts = source.targets, self.split(source.targets)
        known, labels = identities[parts["train"]].unique(return_inverse=True)
        self._check_apart(
            *(identities[torch.cat([parts[name] for name in names])] for names in (_BEFORE_THE_TEST, _IN_THE_TEST))
        )
        self.class_names = self.name_identities(known.tolist())
        cameras = self.cameras(identities)
        sets: dict[str, Any] = {"train": RetrievalEntries(source.images[parts["train"]], labels)}
        for name in ("val", "test"):
            query, gallery = parts[f"{name}_query"], parts[f"{name}_gallery"]
            roles = torch.zeros_like(identities)
            roles[query] |= QUERY
            roles[gallery] |= GALLERY
            used = roles.nonzero().flatten()
            targets = torch.stack([identities, cameras, roles], 1)[used]
            if len(used) or name == "test":
                check_matches(name, targets)
            sets[name] = RetrievalEntries(source.images[used], targets)
        return sets

    def known_training_targets(self) -> Tensor | None:
        """None: batches of identities are checked with the first of them."""
        return None

    def make_unlabeled(self) -> Any:
        """There are no unlabeled images."""
        return ()

    def val_dataloader(self) -> Any:
        """The images of validation; no loader if there are none, with which Lightning leaves validation out."""
        return self.eval_dataloader("val") if len(self.sets["val"]) else []

    def train_dataloader(self) -> DataLoader[Batch]:
        """P identities with K images each, in an order that (seed, epoch, rank) decide.

        Raises:
            ValueError: If there are fewer identities than all processes take in a step, or one has too few images.
        """
        processes, rank = self._world()
        sampler = PKSampler(
            self.sets["train"].targets,
            self.identities_per_batch,
            self.images_per_identity,
            processes,
            rank,
            batch_order_seed(self._shared_seed()),
            self.few_images,
            self.class_names,
        )
        sampler.set_epoch(self._first_epoch())
        return self.make_loader(self.sets["train"], self.batch_size, sampler, drop_last=True)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Check the first training batch, whoever made its loader.

        Raises:
            RuntimeError: If it is not of P identities with K images each.
        """
        if not self._checked and self.trainer is not None and self.trainer.training:
            check_composition(batch[1], self.identities_per_batch, self.images_per_identity)
            self._checked = True
        return batch

    def _check_labels(self, name: str, targets: Tensor) -> None:
        """Leave the targets as they are: labels are made here, and those of evaluation are none."""

    def _check_apart(self, before: Tensor, tested: Tensor) -> None:
        shared = before[torch.isin(before, tested)].unique().tolist()
        if shared:
            named = ", ".join(map(repr, self.name_identities(shared[:5])))
            more = f" and {len(shared) - 5} more" if len(shared) > 5 else ""
            raise ValueError(
                f"{type(self).__name__}: {len(shared)} identities are both in training or validation and in the test: "
                f"{named}{more}. The test must have others."
            )


def check_matches(name: str, targets: Tensor) -> None:
    """Refuse a part in which no query has a right entry in the gallery, and say how many have none.

    Args:
        name: Of the part.
        targets: See `RetrievalEntries`, ``(N, 3)``.

    Raises:
        ValueError: If none has.
    """
    query, gallery = (targets[:, 2] & QUERY) > 0, (targets[:, 2] & GALLERY) > 0
    unmatched = int((count_right(targets)[query] == 0).sum())
    if unmatched == int(query.sum()):
        raise ValueError(
            f"none of {unmatched} {name} queries has an image of its identity in the gallery of {int(gallery.sum())}, "
            f"from another camera where cameras are known. There is nothing to score."
        )
    if unmatched:
        log.warning(
            "%d of %d %s queries have no right image in the gallery, so they are not scored.",
            unmatched, int(query.sum()), name,
        )  # fmt: skip


def count_right(targets: Tensor) -> Tensor:
    """Count the right entries that the gallery has for each image, ``(N,)``, if it were a query.

    Right are the images of its identity, without itself and those from its own camera, if that is known.

    Args:
        targets: See `RetrievalEntries`, ``(N, 3)``.
    """
    identities, cameras, roles = targets.unbind(1)
    in_gallery = ((roles & GALLERY) > 0).long()
    same = _sum_over_equals(identities[:, None], in_gallery)
    same_camera = _sum_over_equals(targets[:, :2], in_gallery)
    return same - torch.where(cameras == UNKNOWN_CAMERA, in_gallery, same_camera)


def _sum_over_equals(keys: Tensor, values: Tensor) -> Tensor:
    """Sum the values ``(N,)`` over the rows with the same keys ``(N, k)``, for each row."""
    unique, places = keys.unique(dim=0, return_inverse=True)
    return torch.zeros(len(unique), dtype=values.dtype).index_add_(0, places, values)[places]


def draw_queries(identities: Tensor, candidates: Tensor, per_identity: int, generator: torch.Generator) -> Tensor:
    """Choose queries: so many images of each identity.

    Args:
        identities: Of all images, ``(N,)``.
        candidates: Indices of the images to choose from, ``(n,)``.
        per_identity: How many; of an identity with no more than these one stays in the gallery.
        generator: Decides which.

    Returns:
        Which candidates are queries, ``(n,)`` bool.
    """
    chosen = torch.zeros(len(candidates), dtype=torch.bool)
    for identity in identities[candidates].unique():
        places = (identities[candidates] == identity).nonzero().flatten()
        order = places[torch.randperm(len(places), generator=generator)]
        chosen[order[: max(1, min(per_identity, len(places) - 1))]] = True
    return chosen
