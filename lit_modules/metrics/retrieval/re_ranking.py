"""Re-ranking with k-reciprocal neighbours (Zhong et al. 2017, arXiv:1701.08398).

Two images are close if they have the same neighbours. Where the authors' program and their text differ, this does what
the program does, since the published numbers are its own: distances are squared Euclidean and divided by the largest
of their row; an image is the first of its own neighbours; and a neighbour's set is taken in if *more* than two thirds
of it are common (equation 5 says at least).

No matrix of all pairs is kept: of N images each has a few hundred neighbours at most, and these are what is stored.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_modules.metrics.retrieval.distances import Distance, nearest, squared_distances, to_whole_numbers


class _Sets(NamedTuple):
    """Fuzzy sets of images: members and how much they count, in ascending order, each ``(pairs,)``."""

    rows: Tensor
    columns: Tensor
    values: Tensor


def re_ranked_distances(
    query: Tensor,
    gallery: Tensor,
    k1: int = 20,
    k2: int = 6,
    original_weight: float = 0.3,
    distance: Distance = "euclidean",
    own_places: Tensor | None = None,
    chunk_size: int = 256,
) -> Tensor:
    """Mix the distance of features with the Jaccard distance of neighbour sets (equation 12).

    Args:
        query: Features ``(Q, D)``.
        gallery: Features ``(G, D)``.
        k1: Number of neighbours that may be reciprocal (equation 3).
        k2: Over how many nearest, itself among them, an image's set is averaged (equation 11); 1 is off.
        original_weight: Weight lambda of the distance of features, 0 to 1.
        distance: See `to_whole_numbers`.
        own_places: Place of each query in the gallery, ``(Q,)``; -1 or None if it is not there. An image that is both
            is one neighbour, not two.
        chunk_size: Images at a time. It does not change the result.

    Returns:
        Distances ``(Q, G)`` float32.

    Raises:
        ValueError: If ``k1`` or ``k2`` is below 1, or the weight is not from 0 to 1.
    """
    if k1 < 1 or k2 < 1 or not 0 <= original_weight <= 1:
        raise ValueError(
            f"k1={k1} and k2={k2} must be at least 1, and original_weight={original_weight} must be from 0 to 1."
        )
    images, places = _join(*to_whole_numbers(query, gallery, distance), own_places)
    first = len(images) - len(gallery)
    neighbours, furthest = _find_neighbours(images, max(k1 + 1, k2), chunk_size)
    rows, columns = _expanded_sets(neighbours, k1, chunk_size)
    values = (-_pair_distances(images, rows, columns) / furthest[rows]).exp()
    values /= torch.zeros_like(furthest).index_add_(0, rows, values)[rows]
    sets = _Sets(rows, columns, values)
    if k2 > 1:
        sets = _average_over_nearest(sets, neighbours[:, :k2], chunk_size)
    jaccard = _JaccardDistances(sets, len(images), first)
    mixed = []
    for part in places.split(chunk_size):
        original = squared_distances(images[part], images[first:]) / furthest[part, None]
        mixed.append(((1 - original_weight) * jaccard.measure(part) + original_weight * original).float())
    return torch.cat(mixed)


def _join(query: Tensor, gallery: Tensor, own_places: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return all images, the gallery last, and the places of the queries among them."""
    outside = torch.ones(len(query), dtype=torch.bool, device=query.device) if own_places is None else own_places < 0
    images = torch.cat([query[outside], gallery])
    places = outside.cumsum(0) - 1
    return images, places if own_places is None else torch.where(outside, places, own_places + outside.sum())


def _find_neighbours(images: Tensor, count: int, chunk_size: int) -> tuple[Tensor, Tensor]:
    """Return the nearest of each image ``(N, count)``, itself first, and its largest distance ``(N,)``."""
    found, furthest = [], []
    for start in range(0, len(images), chunk_size):
        distances = squared_distances(images[start : start + chunk_size], images)
        furthest.append(distances.max(1).values.clamp(min=1))  # 0 if all images are alike
        places = torch.arange(len(distances), device=images.device)
        distances[places, places + start] = -1
        found.append(nearest(distances, min(count, len(images))))
    return torch.cat(found), torch.cat(furthest)


def _is_reciprocal(neighbours: Tensor, chunk_size: int) -> Tensor:
    """Tell which neighbours ``(N, k)`` of an image have it among theirs (equation 3)."""
    places = torch.arange(len(neighbours), device=neighbours.device)[:, None, None]
    chunks = zip(neighbours.split(chunk_size), places.split(chunk_size), strict=True)
    return torch.cat([(neighbours[near] == image).any(2) for near, image in chunks])


def _expanded_sets(neighbours: Tensor, k1: int, chunk_size: int) -> tuple[Tensor, Tensor]:
    """Find the reciprocal neighbours of each image, and those of its neighbours that share enough (equation 5).

    Returns:
        Images and members, each ``(pairs,)``, in ascending order.
    """
    far, close = neighbours[:, : k1 + 1], neighbours[:, : round(k1 / 2) + 1]
    far_kept, close_kept = _is_reciprocal(far, chunk_size), _is_reciprocal(close, chunk_size)
    pairs = []
    for start in range(0, len(neighbours), chunk_size):
        part = slice(start, start + chunk_size)
        own, own_kept = far[part], far_kept[part]
        members, kept = close[own], close_kept[own] & own_kept[..., None]  # of each neighbour, (n, k1 + 1, half)
        common = torch.stack([_contains(own, own_kept, column) for column in members.unbind(2)], 2) & kept
        accepted = 3 * common.sum(2) > 2 * kept.sum(2)
        kept &= accepted[..., None]
        keys = (torch.arange(len(own), device=own.device) + start) * len(neighbours)
        found = [(keys[:, None] + own)[own_kept], (keys[:, None, None] + members)[kept]]
        pairs.append(torch.cat(found).unique())
    together = torch.cat(pairs)
    return together // len(neighbours), together % len(neighbours)


def _contains(sets: Tensor, kept: Tensor, values: Tensor) -> Tensor:
    """Tell which values ``(n, m)`` are in the sets ``(n, k)`` of their rows, of which only some members are kept."""
    return ((values[..., None] == sets[:, None]) & kept[:, None]).any(2)


def _pair_distances(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the squared distances of pairs, exact as in `squared_distances`."""
    pairs = zip(rows.split(8192), columns.split(8192), strict=True)
    return torch.cat([(images[one] - images[other]).square_().sum(1) for one, other in pairs])


def _average_over_nearest(sets: _Sets, nearest_ones: Tensor, chunk_size: int) -> _Sets:
    """Replace the set of each image by the mean of those of its nearest ``(N, k2)`` (equation 11)."""
    count, k2 = nearest_ones.shape
    sizes = sets.rows.bincount(minlength=count)
    starts = sizes.cumsum(0) - sizes
    averaged = []
    for first in range(0, count, chunk_size):
        near = nearest_ones[first : first + chunk_size].flatten()
        pair, place = _expand_ranges(starts[near], sizes[near])
        keys, positions = ((first + pair // k2) * count + sets.columns[place]).unique(return_inverse=True)
        values = sets.values.new_zeros(len(keys)).index_add_(0, positions, sets.values[place] / k2)
        averaged.append((keys // count, keys % count, values))
    return _Sets(*(torch.cat(parts) for parts in zip(*averaged, strict=True)))


def _expand_ranges(starts: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """List the places of ranges one after the other: of which range each is, and where."""
    owner = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
    before = sizes.cumsum(0) - sizes
    return owner, torch.arange(len(owner), device=sizes.device) + (starts - before)[owner]


class _JaccardDistances:
    """Jaccard distances between the fuzzy sets of images and those of the gallery (equation 10).

    All sets add up to 1, so the union is 2 less the intersection, and that takes only members that both have.

    Args:
        sets: Of all images.
        images: How many there are.
        first: Which is the first of the gallery; all from there on belong to it.
    """

    def __init__(self, sets: _Sets, images: int, first: int) -> None:
        self.sets, self.entries = sets, images - first
        self.sizes = sets.rows.bincount(minlength=images)
        self.starts = self.sizes.cumsum(0) - self.sizes
        inside = sets.rows >= first
        columns = sets.columns[inside]
        order = columns.argsort(stable=True)
        self.holders = sets.rows[inside][order] - first
        self.holder_values = sets.values[inside][order]
        self.holder_sizes = columns.bincount(minlength=images)
        self.holder_starts = self.holder_sizes.cumsum(0) - self.holder_sizes

    def measure(self, images: Tensor) -> Tensor:
        """Return the distances ``(n, G)`` of some images ``(n,)``, float64."""
        owner, own = _expand_ranges(self.starts[images], self.sizes[images])
        members = self.sets.columns[own]
        pair, holder = _expand_ranges(self.holder_starts[members], self.holder_sizes[members])
        common = torch.minimum(self.sets.values[own][pair], self.holder_values[holder])
        places = owner[pair] * self.entries + self.holders[holder]
        intersection = common.new_zeros(len(images) * self.entries).index_add_(0, places, common)
        return 1 - (intersection / (2 - intersection)).view(len(images), self.entries)
