"""At which rank a query finds its right gallery entries.

A tie counts against the query: of entries at the same distance, wrong ones come first. So features that are all alike
score worst, not by the luck of the order in which the gallery is stored. Every score is made from these ranks, so they
are all that is kept of a chunk of queries. Nothing is sorted but the few right entries: the others are counted between
them.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.metrics.retrieval.distances import Distance, squared_distances, to_whole_numbers
from lit_modules.metrics.retrieval.ground_truth import GroundTruth


def rank_by_features(
    query: Tensor, gallery: Tensor, truth: GroundTruth, distance: Distance = "euclidean", chunk_size: int = 256
) -> Tensor:
    """Rank the gallery by the distance of features, on their device. No chunk size changes the result.

    Args:
        query: Features ``(Q, D)``.
        gallery: Features ``(G, D)``.
        truth: What is right, on the same device.
        distance: See `to_whole_numbers`.
        chunk_size: Queries at a time. Memory is about 30 bytes x ``chunk_size`` x G beside features in float64.

    Returns:
        As `rank_matches`, ``(Q, M)``.

    Raises:
        ValueError: If the number of features is not that of identities, or features are not as `to_whole_numbers`
            needs them.
    """
    _check_counts((len(query), len(gallery)), truth)
    query, gallery = to_whole_numbers(query, gallery, distance)
    return _rank_chunks(lambda rows: squared_distances(query[rows], gallery), truth, chunk_size)


def rank_by_distances(distances: Tensor, truth: GroundTruth, chunk_size: int = 256) -> Tensor:
    """Rank the gallery by distances ``(Q, G)`` that are known, as after re-ranking; else as `rank_by_features`.

    Raises:
        ValueError: If the shape is not that of the identities, or a distance is NaN.
    """
    _check_counts(tuple(distances.shape), truth)
    if distances.isnan().any():
        raise ValueError("distances hold NaN, so they cannot be ranked.")
    return _rank_chunks(lambda rows: distances[rows], truth, chunk_size)


def rank_matches(distances: Tensor, matches: Tensor, left_out: Tensor) -> Tensor:
    """Return the ranks of the right entries of each query.

    Args:
        distances: ``(q, G)``.
        matches: Which entries are right, ``(q, G)`` bool.
        left_out: Which entries are not in the ranking, ``(q, G)`` bool, none of them right.

    Returns:
        Ranks from 1, ascending, ``(q, M)`` int64, where M is the most right entries that a query has; then 0.
    """
    counts = matches.sum(1)
    numbers = torch.arange(int(counts.max()), device=distances.device)
    there = numbers < counts[:, None]
    right = distances.new_full(there.shape, torch.inf)
    right[there] = distances[matches]
    right = right.sort(1).values
    # A wrong entry stands before all right ones that are as far as it or further, from this place on:
    places = torch.searchsorted(right, distances)
    width = len(numbers) + 1
    places += torch.arange(len(distances), device=distances.device)[:, None] * width
    wrong = places[~(matches | left_out)].bincount(minlength=len(distances) * width).view(-1, width)
    return torch.where(there, numbers + 1 + wrong.cumsum(1)[:, :-1], 0)


def _rank_chunks(measure: Callable[[slice], Tensor], truth: GroundTruth, chunk_size: int) -> Tensor:
    starts = range(0, len(truth.query_identities), chunk_size)
    chunks = [slice(start, start + chunk_size) for start in starts]
    ranks = [rank_matches(measure(rows), *truth.judge(rows)) for rows in chunks]
    most = max(part.shape[1] for part in ranks)
    return torch.cat([F.pad(part, (0, most - part.shape[1])) for part in ranks])


def _check_counts(counts: tuple[int, ...], truth: GroundTruth) -> None:
    expected = (len(truth.query_identities), len(truth.gallery_identities))
    if counts != expected:
        raise ValueError(
            f"{' x '.join(map(str, counts))} queries and gallery entries are to be ranked, but identities are given "
            f"for {expected[0]} x {expected[1]}."
        )
