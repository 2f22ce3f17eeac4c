"""How a gallery is ranked for queries: which distance, expanded queries, re-ranking."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_modules.metrics.retrieval import (
    Distance,
    GroundTruth,
    RetrievalScores,
    expand_queries,
    rank_by_distances,
    rank_by_features,
    re_ranked_distances,
    score_ranks,
    squared_distances,
    to_whole_numbers,
)

QUERY, GALLERY = 1, 2
"""Roles of an image in evaluation; one that has both ranks all others."""


@dataclass(frozen=True)
class ReRanking:
    """Re-ranking by k-reciprocal neighbours (Zhong et al. 2017, arXiv:1701.08398); see `re_ranked_distances`.

    Args:
        k1: Number of neighbours that may be reciprocal.
        k2: Over how many nearest an image's neighbour set is averaged.
        original_weight: Weight of the distance of features.

    Raises:
        ValueError: If an argument is out of range.
    """

    k1: int = 20
    k2: int = 6
    original_weight: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.original_weight <= 1:
            raise ValueError(
                f"ReRanking: k1={self.k1} and k2={self.k2} must be at least 1, and "
                f"original_weight={self.original_weight} must be from 0 to 1."
            )


@dataclass(frozen=True)
class QueryExpansion:
    """Query expansion (Chum et al. 2007; Radenovic et al. 2018, arXiv:1711.02512); see `expand_queries`.

    Args:
        neighbours: How many gallery entries join the query.
        alpha: Power of the cosine by which each counts; 0 counts all alike.

    Raises:
        ValueError: If ``neighbours`` is below 1 or ``alpha`` negative.
    """

    neighbours: int = 10
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if self.neighbours < 1 or not self.alpha >= 0:
            raise ValueError(
                f"QueryExpansion: neighbours={self.neighbours} must be at least 1, and alpha={self.alpha} at least 0."
            )


@dataclass(frozen=True)
class Ranking:
    """Scores features by how they rank the gallery.

    Example::

        Ranking("cosine", re_ranking=ReRanking()).score(features, targets).map

    Args:
        distance: Between features, ``"euclidean"`` or ``"cosine"``.
        re_ranking: Mix the distance with that of neighbour sets. None is off.
        query_expansion: Replace queries by means with their nearest entries first. None is off. Expanded queries have
            norm 1, and so does the gallery then.
    """

    distance: Distance = "euclidean"
    re_ranking: ReRanking | None = None
    query_expansion: QueryExpansion | None = None

    def score(self, features: Tensor, targets: Tensor) -> RetrievalScores:
        """Score the features of all images of an evaluation, on their device.

        Args:
            features: ``(N, D)``.
            targets: ``(N, 3)`` int64: identity, camera (-1 is unknown) and role (1 query, 2 gallery, 3 both).

        Raises:
            ValueError: If there is no query with a right entry, or features are not finite.
        """
        query, gallery, truth, distance = self._prepare(features, targets)
        if self.re_ranking is None:
            return score_ranks(rank_by_features(query, gallery, truth, distance))
        return score_ranks(rank_by_distances(self._re_rank(self.re_ranking, query, gallery, truth, distance), truth))

    def distances(self, features: Tensor, targets: Tensor, queries: Tensor) -> tuple[Tensor, GroundTruth]:
        """Return by what the gallery is ranked for some queries, ``(q, G)``, and what is right for these.

        Args:
            features: As in `score`.
            targets: See there.
            queries: Which of the queries, ``(q,)``.
        """
        query, gallery, truth, distance = self._prepare(features, targets)
        if self.re_ranking is None:
            measured = squared_distances(*to_whole_numbers(query[queries], gallery, distance))
        else:
            measured = self._re_rank(self.re_ranking, query, gallery, truth, distance)[queries]
        return measured, truth.of_queries(queries)

    def _prepare(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, GroundTruth, Distance]:
        """Return queries, expanded if that is asked for, gallery, what is right, and the distance to take."""
        query, gallery, truth = split_roles(features, targets)
        if self.query_expansion is None:
            return query, gallery, truth, self.distance
        how = self.query_expansion
        return expand_queries(query, gallery, how.neighbours, how.alpha, truth.own_places), gallery, truth, "cosine"

    def _re_rank(
        self, how: ReRanking, query: Tensor, gallery: Tensor, truth: GroundTruth, distance: Distance
    ) -> Tensor:
        # An expanded query is no longer the image that the gallery holds.
        places = truth.own_places if self.query_expansion is None else None
        return re_ranked_distances(query, gallery, how.k1, how.k2, how.original_weight, distance, places)


def split_roles(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, GroundTruth]:
    """Return the features of queries ``(Q, D)`` and gallery ``(G, D)``, and what is right for them.

    Args:
        features: ``(N, D)``.
        targets: ``(N, 3)``: identity, camera and role; see `Ranking.score`.
    """
    identities, cameras, roles = targets.unbind(1)
    is_query, in_gallery = (roles & QUERY) > 0, (roles & GALLERY) > 0
    places = torch.where(in_gallery, in_gallery.cumsum(0) - 1, -1)[is_query]
    truth = GroundTruth(identities[is_query], identities[in_gallery], cameras[is_query], cameras[in_gallery], places)
    return features[is_query], features[in_gallery], truth
