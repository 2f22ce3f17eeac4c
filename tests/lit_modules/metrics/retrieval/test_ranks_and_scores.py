"""Ranks and scores against loops and pytorch-metric-learning."""

import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from torch import Tensor

from lit_modules.metrics.retrieval import (
    GroundTruth,
    RetrievalScores,
    rank_by_distances,
    rank_by_features,
    score_ranks,
    to_whole_numbers,
)
from tests.lit_modules.metrics.retrieval import naive


def features(count: int, length: int = 6, seed: int = 0, levels: int | None = None) -> Tensor:
    """Random features; with few levels, most distances are tied."""
    generator = torch.Generator().manual_seed(seed)
    if levels is None:
        return torch.randn(count, length, generator=generator)
    return torch.randint(levels, (count, length), generator=generator).float()


def numbers(count: int, below: int, seed: int) -> Tensor:
    return torch.randint(below, (count,), generator=torch.Generator().manual_seed(seed))


def market_case(levels: int | None = None) -> tuple[Tensor, Tensor, GroundTruth]:
    """30 queries of 8 identities and 90 entries with junk, distractors and 3 cameras; identity 8 is not in it."""
    query_identities, gallery_identities = numbers(30, 8, 1) + 1, numbers(90, 9, 2) - 1
    truth = GroundTruth(query_identities, gallery_identities, numbers(30, 3, 3), numbers(90, 3, 4))
    return features(30, seed=5, levels=levels), features(90, seed=6, levels=levels), truth


def naive_scores(distances: Tensor, truth: GroundTruth, max_rank: int = 10) -> dict[str, object]:
    rankings = []
    for query, row in enumerate(distances.tolist()):
        right, left_out = [], []
        for entry in range(len(row)):
            same = int(truth.query_identities[query]) == int(truth.gallery_identities[entry])
            seen = truth.query_cameras is not None and int(truth.query_cameras[query]) == int(
                truth.gallery_cameras[entry]
            )
            itself = truth.own_places is not None and int(truth.own_places[query]) == entry
            out = int(truth.gallery_identities[entry]) == -1 or (same and seen) or itself
            right.append(same and not out)
            left_out.append(out)
        rankings.append(naive.rank_gallery(row, right, left_out))
    return naive.score(rankings, max_rank)


def assert_equal(scores: RetrievalScores, expected: dict[str, object]) -> None:
    for name, value in expected.items():
        assert getattr(scores, name) == (pytest.approx(value) if name not in ("queries", "unmatched") else value), name


@pytest.mark.parametrize("levels", [None, 2, 3], ids=["no ties", "many ties", "ties"])
def test_scores_are_those_of_a_loop_by_the_rules_of_market(levels: int | None) -> None:
    query, gallery, truth = market_case(levels)
    expected = naive_scores(torch.cdist(query.double(), gallery.double()).square().round(decimals=9), truth)
    assert expected["unmatched"] > 0
    assert_equal(score_ranks(rank_by_features(query, gallery, truth)), expected)


def test_queries_in_the_gallery_leave_themselves_out() -> None:
    identities, points = numbers(40, 6, 1), features(40, levels=3)
    truth = GroundTruth(identities, identities, own_places=torch.arange(40))
    distances = torch.cdist(points.double(), points.double()).square().round(decimals=9)
    assert_equal(score_ranks(rank_by_features(points, points, truth)), naive_scores(distances, truth))


def test_the_cosine_ranks_as_the_similarity_does() -> None:
    query, gallery, truth = market_case()
    similarity = torch.cosine_similarity(query.double()[:, None], gallery.double()[None], dim=2)
    expected = naive_scores(-similarity, truth)
    assert_equal(score_ranks(rank_by_features(query, gallery, truth, "cosine")), expected)


@pytest.mark.parametrize("itself", [False, True])
def test_scores_are_those_of_pytorch_metric_learning(itself: bool) -> None:
    identities, points = numbers(60, 5, 1), features(60, seed=2)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision"),
        k=59 if itself else 40,
        device=torch.device("cpu"),
        knn_func=CustomKNN(LpDistance(normalize_embeddings=False)),
    )
    if itself:
        theirs = calculator.get_accuracy(points, identities)
        truth = GroundTruth(identities, identities, own_places=torch.arange(60))
        ours = score_ranks(rank_by_features(points, points, truth))
    else:
        theirs = calculator.get_accuracy(points[:20], identities[:20], points[20:], identities[20:])
        ours = score_ranks(rank_by_features(points[:20], points[20:], GroundTruth(identities[:20], identities[20:])))
    assert ours.rank(1) == pytest.approx(theirs["precision_at_1"])
    assert ours.map == pytest.approx(theirs["mean_average_precision"])


@pytest.mark.parametrize("levels", [None, 2])
def test_no_chunk_size_changes_a_digit(levels: int | None) -> None:
    query, gallery, truth = market_case(levels)
    whole = rank_by_features(query, gallery, truth, chunk_size=30)
    for chunk_size in (1, 7, 29, 1000):
        assert torch.equal(rank_by_features(query, gallery, truth, chunk_size=chunk_size), whole)


def test_no_order_of_the_gallery_changes_a_digit() -> None:
    query, gallery, truth = market_case()
    gallery[40:80] = gallery[:40]  # the same images again, under other identities
    expected = rank_by_features(query, gallery, truth)
    for seed in range(5):
        order = torch.randperm(90, generator=torch.Generator().manual_seed(seed))
        shuffled = GroundTruth(
            truth.query_identities, truth.gallery_identities[order], truth.query_cameras, truth.gallery_cameras[order]
        )
        assert torch.equal(rank_by_features(query, gallery[order], shuffled), expected)


def test_features_that_are_all_alike_score_worst() -> None:
    truth = GroundTruth(torch.zeros(3), torch.tensor([0.0, 0, 1, 1, 1, 1]))
    scores = score_ranks(rank_by_features(torch.ones(3, 4), torch.ones(6, 4), truth))
    assert scores.cmc[:5] == (0, 0, 0, 0, 1)
    assert scores.map == pytest.approx((1 / 5 + 2 / 6) / 2)
    assert scores.minp == pytest.approx(2 / 6)


def test_distances_of_long_features_are_exact_whole_numbers() -> None:
    query, gallery = features(5, 2048) * 1e4, features(7, 2048, seed=1)
    first, second = to_whole_numbers(query, gallery)
    assert torch.equal(first, first.round()) and first.norm(dim=1).max() <= 2**25 + 2048
    exact = [
        [sum((int(a) - int(b)) ** 2 for a, b in zip(one, other, strict=True)) for other in second] for one in first
    ]
    truth = GroundTruth(torch.arange(5) % 2, torch.arange(7) % 2)
    ranks = rank_by_features(query, gallery, truth)
    assert torch.equal(ranks, rank_by_distances(torch.tensor(exact, dtype=torch.float64), truth))
    assert max(map(max, exact)) <= 2**52 + 2**40


def test_known_distances_are_ranked_as_they_are() -> None:
    _, _, truth = market_case()
    distances = torch.rand(30, 90, generator=torch.Generator().manual_seed(0))
    for chunk_size in (4, 30):
        assert_equal(score_ranks(rank_by_distances(distances, truth, chunk_size)), naive_scores(distances, truth))


def test_an_unknown_camera_leaves_nothing_out() -> None:
    identities, cameras = torch.zeros(4), torch.full((4,), -1)
    truth = GroundTruth(identities[:2], identities, cameras[:2], cameras)
    assert truth.judge(slice(0, 2))[0].all() and not truth.judge(slice(0, 2))[1].any()


def test_queries_without_a_match_are_counted_and_left_out_of_the_means() -> None:
    truth = GroundTruth(torch.tensor([0, 5]), torch.tensor([0, 1]))
    scores = score_ranks(rank_by_distances(torch.tensor([[0.0, 1], [0, 1]]), truth), max_rank=1)
    assert scores == RetrievalScores(cmc=(1.0,), map=1.0, minp=1.0, queries=1, unmatched=1)


def test_no_match_at_all_is_an_error() -> None:
    truth = GroundTruth(torch.tensor([0, 0]), torch.tensor([1]))
    with pytest.raises(ValueError, match="none of 2 queries has a right entry"):
        score_ranks(rank_by_distances(torch.zeros(2, 1), truth))


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((torch.zeros(2, 3), torch.zeros(3, 3)), "2 x 3 queries and gallery entries"),
        ((torch.zeros(1, 3), torch.zeros(2, 4)), r"\(1, 3\) and gallery features \(2, 4\) must be"),
        ((torch.full((1, 3), torch.nan), torch.zeros(2, 3)), "NaN or infinity"),
    ],
)
def test_features_that_cannot_be_ranked_are_refused(arguments: tuple[Tensor, Tensor], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        rank_by_features(*arguments, GroundTruth(torch.zeros(1), torch.zeros(2)))


def test_distances_that_are_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="distances hold NaN"):
        rank_by_distances(torch.full((1, 2), torch.nan), GroundTruth(torch.zeros(1), torch.zeros(2)))


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"query_cameras": torch.zeros(1)}, "both be given"),
        ({"own_places": torch.zeros(2)}, r"own_places has .* \(2,\)"),
    ],
)
def test_a_ground_truth_that_does_not_fit_is_refused(arguments: dict[str, Tensor], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        GroundTruth(torch.zeros(1), torch.zeros(2), **arguments)
