"""Distances between features, exact, so that a ranking does not depend on how they are computed.

A matrix product rounds in the last digits, and how depends on the block that an entry is in, on the number of threads
and on the device: equal images would come out at distances that differ by noise, and the order of the gallery would
decide. Here features are first rounded to whole multiples of 2^-25 of the largest norm, about what float32 resolves.
Sums of products are then whole numbers below 2^53, which float64 adds without rounding in any order.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Literal["euclidean", "cosine"]

_BITS = 25  # |q|^2 + |g|^2 + 2 |q| |g| is at most 2^52 then


def to_whole_numbers(query: Tensor, gallery: Tensor, distance: Distance = "euclidean") -> tuple[Tensor, Tensor]:
    """Round features so that their squared distances are exact.

    Args:
        query: Features ``(Q, D)``.
        gallery: Features ``(G, D)``.
        distance: ``"euclidean"``, or ``"cosine"`` to divide each feature by its norm first: by the Euclidean distance
            of such features the order is that of the cosine.

    Returns:
        Both as float64 whole numbers, multiplied by the same power of two.

    Raises:
        ValueError: If features are not of one length, not finite, or there are none.
    """
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1] or 0 in (*query.shape, len(gallery)):
        raise ValueError(
            f"query features {tuple(query.shape)} and gallery features {tuple(gallery.shape)} must be (Q, D) and "
            f"(G, D), with at least one of each."
        )
    features = [query.double(), gallery.double()]
    if distance == "cosine":
        features = [F.normalize(part, dim=1) for part in features]
    largest = torch.stack([part.norm(dim=1).max() for part in features]).max()
    if not largest.isfinite():
        raise ValueError("features hold NaN or infinity, so they cannot be ranked. The training has diverged.")
    exponent = torch.frexp(largest).exponent  # the norm is below 2^exponent
    first, second = (torch.ldexp(part, _BITS - exponent).round() for part in features)
    return first, second


def squared_distances(query: Tensor, gallery: Tensor) -> Tensor:
    """Return the squared Euclidean distances ``(q, G)`` of whole numbers ``(q, D)`` and ``(G, D)``, exact."""
    squares = gallery.square().sum(1)
    return torch.addmm(squares, query, gallery.T, alpha=-2).add_(query.square().sum(1, keepdim=True))


def nearest(distances: Tensor, count: int) -> Tensor:
    """Choose the nearest of each row, in their order; of equals the earlier is the nearer.

    Args:
        distances: ``(n, G)``.
        count: How many, at most G.

    Returns:
        Their places, ``(n, count)``.
    """
    furthest = distances.kthvalue(count, dim=1, keepdim=True).values
    rows, columns = (distances <= furthest).nonzero().unbind(1)  # more than `count` in a row that has equals
    order = distances[rows, columns].argsort(stable=True)
    order = order[rows[order].argsort(stable=True)]
    starts = torch.searchsorted(rows, torch.arange(len(distances), device=rows.device))
    return columns[order[starts[:, None] + torch.arange(count, device=rows.device)]]
