"""CMC, mean average precision and mean inverse negative penalty, from the ranks of right entries."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RetrievalScores:
    """Scores over all queries that have a right entry in the gallery.

    Args:
        cmc: Share of queries with a right entry among the first k, at place k - 1. In metric learning, where nothing
            is left out but the query itself, the same number is called Recall@k (Jegou et al. 2011).
        map: Mean over queries of the average precision, the mean of the precisions at the ranks of the right entries.
            This is what re-identification code of today reports; Market-1501's first program took trapezoids, which
            gives a little less.
        minp: Mean over queries of the number of right entries divided by the rank of the last (Ye et al. 2020,
            arXiv:2001.04193, section 3.2).
        queries: Number of queries that the means are over.
        unmatched: Number of queries without a right entry, which count in none.
    """

    cmc: tuple[float, ...]
    map: float
    minp: float
    queries: int
    unmatched: int

    def rank(self, k: int) -> float:
        """Return the share of queries with a right entry among the first k, also called Recall@k."""
        return self.cmc[k - 1]


def score_ranks(ranks: Tensor, max_rank: int = 10) -> RetrievalScores:
    """Make scores of ranks.

    Args:
        ranks: Ranks of the right entries of each query, ascending, then 0, ``(Q, M)``; see `rank_matches`.
        max_rank: Up to which rank CMC goes.

    Raises:
        ValueError: If no query has a right entry.
    """
    counts = (ranks > 0).sum(1)
    matched = counts > 0
    if not matched.any():
        raise ValueError(
            f"none of {len(ranks)} queries has a right entry in the gallery, so there is nothing to score."
        )
    ranks, counts = ranks[matched].double(), counts[matched]
    first = ranks[:, 0]
    return RetrievalScores(
        cmc=tuple((first <= k).double().mean().item() for k in range(1, max_rank + 1)),
        map=average_precisions(ranks).mean().item(),
        minp=(counts / ranks.max(1).values).mean().item(),
        queries=len(ranks),
        unmatched=int((~matched).sum()),
    )


def average_precisions(ranks: Tensor) -> Tensor:
    """Return the average precision of each query, ``(Q,)`` float64: 0 of one without a right entry.

    Args:
        ranks: As in `score_ranks`.
    """
    ranks = ranks.double()
    numbers = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
    precisions = torch.where(ranks > 0, numbers / ranks, 0)  # where a rank is 0, infinity is not taken
    return precisions.sum(1) / (ranks > 0).sum(1).clamp(min=1)
