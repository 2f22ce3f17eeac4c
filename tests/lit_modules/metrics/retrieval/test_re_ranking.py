"""Re-ranking and query expansion against loops over the formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.metrics.retrieval import expand_queries, nearest, re_ranked_distances
from tests.lit_modules.metrics.retrieval import naive


def clusters(count: int, seed: int, levels: bool = False) -> Tensor:
    """Points around 5 centres; with levels, on a coarse grid, so that points coincide and distances are tied."""
    centres = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)) * 2
    generator = torch.Generator().manual_seed(seed)
    points = centres[torch.randint(5, (count,), generator=generator)] + torch.randn(count, 4, generator=generator)
    return (points / 2).round() if levels else points


@pytest.mark.parametrize("levels", [False, True], ids=["no ties", "ties"])
@pytest.mark.parametrize("k1, k2, weight", [(20, 6, 0.3), (7, 3, 0.0), (5, 1, 0.5), (4, 8, 0.3), (100, 6, 0.3)])
def test_distances_are_those_of_the_formulas(k1: int, k2: int, weight: float, levels: bool) -> None:
    query, gallery = clusters(12, 1, levels), clusters(48, 2, levels)
    expected = naive.re_rank(torch.cat([query, gallery]).double().tolist(), 12, k1, k2, weight)
    got = re_ranked_distances(query, gallery, k1, k2, weight)
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_an_image_is_its_own_first_neighbour_among_more_copies_of_it_than_neighbours() -> None:
    images = torch.cat([clusters(1, 3).expand(9, 4), clusters(20, 2)])
    expected = naive.re_rank(images.double().tolist(), 6, 3, 2, 0.3)
    got = re_ranked_distances(images[:6], images[6:], 3, 2)
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_cosine_is_the_distance_of_normalized_features() -> None:
    query, gallery = clusters(12, 1), clusters(48, 2)
    expected = naive.re_rank(F.normalize(torch.cat([query, gallery]).double()).tolist(), 12, 20, 6, 0.3)
    got = re_ranked_distances(query, gallery, distance="cosine")
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_no_chunk_size_changes_a_digit() -> None:
    query, gallery = clusters(12, 1), clusters(48, 2)
    whole = re_ranked_distances(query, gallery, chunk_size=60)
    for chunk_size in (1, 5, 13):
        assert torch.equal(re_ranked_distances(query, gallery, chunk_size=chunk_size), whole)


@pytest.mark.parametrize("levels", [False, True], ids=["no ties", "ties"])
def test_a_query_in_the_gallery_is_one_image(levels: bool) -> None:
    images = clusters(40, 1, levels)
    expected = torch.tensor(naive.re_rank_all(images.double().tolist(), 7, 3, 0.3))
    got = re_ranked_distances(images, images, 7, 3, own_places=torch.arange(40), chunk_size=9)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    # Two that are not in the gallery, among two that are.
    own_places = torch.tensor([3, -1, 30, -1])
    got = re_ranked_distances(images[[5, 0, 32, 1]], images[2:], 7, 3, own_places=own_places)
    torch.testing.assert_close(got, expected[[5, 0, 32, 1], 2:], rtol=1e-5, atol=1e-6)


def test_with_all_weight_on_the_features_only_their_scale_changes() -> None:
    query, gallery = clusters(3, 1), clusters(9, 2)
    squared = torch.cdist(query, torch.cat([query, gallery])).square()
    expected = (squared / squared.max(1, keepdim=True).values)[:, 3:]
    torch.testing.assert_close(re_ranked_distances(query, gallery, original_weight=1.0), expected, rtol=1e-4, atol=1e-5)


def test_images_that_are_all_alike_stay_alike() -> None:
    assert re_ranked_distances(torch.ones(2, 3), torch.ones(4, 3)).allclose(torch.zeros(2, 4), atol=1e-6)


@pytest.mark.parametrize("arguments", [{"k1": 0}, {"k2": 0}, {"original_weight": 1.5}])
def test_settings_out_of_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        re_ranked_distances(clusters(2, 1), clusters(3, 2), **arguments)


def test_the_nearest_are_in_order_and_of_equals_the_earlier_comes_first() -> None:
    distances = torch.tensor([[2.0, 1, 2, 0, 2, 1], [0, 0, 0, 0, 0, 0], [5, 4, 3, 2, 1, 0]])
    assert nearest(distances, 4).tolist() == [[3, 1, 5, 0], [0, 1, 2, 3], [5, 4, 3, 2]]


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_expanded_queries_are_weighted_means_of_their_nearest(alpha: float) -> None:
    query, gallery = clusters(6, 1), clusters(20, 2)
    directions = F.normalize(gallery.double())
    for row, got in zip(query, expand_queries(query, gallery, neighbours=5, alpha=alpha, chunk_size=4), strict=True):
        own = F.normalize(row.double(), dim=0)
        cosines = sorted(((float(own @ other), place) for place, other in enumerate(directions)), reverse=True)
        total = own + sum(max(cosine, 0) ** alpha * directions[place] for cosine, place in cosines[:5])
        torch.testing.assert_close(got.double(), total / total.norm(), rtol=1e-5, atol=1e-6)


def test_an_expanded_query_that_is_in_the_gallery_is_not_its_own_neighbour() -> None:
    images = clusters(20, 2)
    expanded = expand_queries(images, images, 5, own_places=torch.arange(20), chunk_size=7)
    for place in range(20):
        others = torch.cat([images[:place], images[place + 1 :]])
        expected = expand_queries(images[[place]], others, 5)
        torch.testing.assert_close(expanded[[place]], expected)
    alone = expand_queries(images[:1], images[:1], 5, own_places=torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(alone, F.normalize(images[:1]))


def test_without_neighbours_the_query_is_only_normalized() -> None:
    query = clusters(6, 1)
    torch.testing.assert_close(expand_queries(query, clusters(20, 2), neighbours=0), F.normalize(query))


def test_more_neighbours_than_entries_are_all() -> None:
    query, gallery = clusters(6, 1), clusters(20, 2)
    assert torch.equal(expand_queries(query, gallery, 99), expand_queries(query, gallery, 20))


@pytest.mark.parametrize("arguments", [{"neighbours": -1}, {"alpha": -0.1}])
def test_a_negative_expansion_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        expand_queries(clusters(2, 1), clusters(3, 2), **arguments)
