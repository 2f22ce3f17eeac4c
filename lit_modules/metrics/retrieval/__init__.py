"""Scores of a ranked gallery, and what may be done to the ranking: re-ranking and query expansion."""

from lit_modules.metrics.retrieval.distances import Distance, nearest, squared_distances, to_whole_numbers
from lit_modules.metrics.retrieval.ground_truth import GroundTruth
from lit_modules.metrics.retrieval.query_expansion import expand_queries
from lit_modules.metrics.retrieval.ranks import rank_by_distances, rank_by_features, rank_matches
from lit_modules.metrics.retrieval.re_ranking import re_ranked_distances
from lit_modules.metrics.retrieval.scores import RetrievalScores, score_ranks

__all__ = [
    "Distance",
    "GroundTruth",
    "RetrievalScores",
    "expand_queries",
    "nearest",
    "rank_by_distances",
    "rank_by_features",
    "rank_matches",
    "re_ranked_distances",
    "score_ranks",
    "squared_distances",
    "to_whole_numbers",
]
