"""Pictures of ranked galleries."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_modules.inference import Ranking, ReRanking
from lit_modules.metrics.retrieval import GroundTruth
from lit_modules.pictures import TaskPicture
from lit_modules.ranking_pictures import RIGHT, WRONG, ranking_pictures

SIDE = 96 + 2 * 4 + 2
FRAME_ROW = 3  # within the upper frame of every tile


class Levels:
    """Test image i is of level 10 i."""

    def __init__(self, count: int, height: int = 8, width: int = 8) -> None:
        images = (torch.arange(count) * 10).to(torch.uint8).view(count, 1, 1, 1).repeat(1, 1, height, width)
        dataset = SimpleNamespace(__getitems__=lambda places: (images[places], None))
        self.loader = SimpleNamespace(dataset=dataset, collate_fn=lambda batch: batch)

    def test_dataloader(self) -> Any:
        return self.loader

    def name_identities(self, identities: list[int]) -> tuple[str, ...]:
        return tuple(f"person {identity}" for identity in identities)


def tiles(picture: TaskPicture) -> list[Tensor]:
    """Cut a picture into the query and those after the gap."""
    return [picture.image[:, :, :SIDE], *picture.image[:, :, SIDE + 12 :].split(SIDE, dim=2)]


def frame(tile: Tensor) -> tuple[int, ...]:
    return tuple(tile[:, FRAME_ROW, SIDE // 2].tolist())


def level(tile: Tensor) -> int:
    return int(tile[0, SIDE // 2, SIDE // 2])


# Image 0 is the query of identity 1, the others are 1 to 5 away from it, one after the other; image 6 is another query.
FEATURES = torch.tensor([0.0, 3.0, 1.0, 2.0, 5.0, 4.0, 100.0])[:, None]
TARGETS = torch.tensor([[1, 1, 1], [1, 2, 2], [2, 1, 2], [1, 1, 2], [2, 2, 2], [1, 3, 2], [2, 5, 1]])


def test_a_query_stands_before_its_ranking_with_right_and_wrong_framed() -> None:
    worst, best = ranking_pictures(Ranking(), FEATURES, TARGETS, Levels(7), most=2)  # type: ignore[arg-type]
    assert [level(tile) for tile in tiles(worst)] == [0, 20, 10, 50, 40]  # image 3 is of the query's own camera
    assert [frame(tile) for tile in tiles(worst)[1:]] == [WRONG, RIGHT, RIGHT, WRONG]
    assert frame(tiles(worst)[0]) == (128, 128, 128)
    assert worst.caption == "person 1 and the first 4 of its ranking: right at rank 2, 3; average precision 58%"
    assert [level(tile) for tile in tiles(best)] == [60, 40, 50, 10, 30, 20]
    assert "right at rank 1, 5" in best.caption and "70%" in best.caption


def test_pictures_are_spread_from_the_worst_ranked_to_the_best() -> None:
    generator = torch.Generator().manual_seed(3)
    targets = torch.stack([torch.arange(25) % 5, torch.full((25,), -1), torch.full((25,), 3)], 1)
    features = torch.randn(25, 4, generator=generator)
    every = ranking_pictures(Ranking("cosine"), features, targets, Levels(25), most=25)  # type: ignore[arg-type]
    shares = [float(picture.caption.rpartition(" ")[2].rstrip("%")) for picture in every]
    assert len(every) == 25 and shares == sorted(shares)
    truth = Ranking("cosine").score(features, targets)
    assert math.isclose(sum(shares) / 25, 100 * truth.map, abs_tol=0.5)
    few = ranking_pictures(Ranking("cosine"), features, targets, Levels(25), most=3)  # type: ignore[arg-type]
    assert [picture.caption for picture in few] == [every[place].caption for place in (0, 12, 24)]
    assert all(len(tiles(picture)) == 11 for picture in few)


def test_images_keep_their_proportions_in_a_tile() -> None:
    data: Any = Levels(7, height=300, width=150)
    tile = tiles(ranking_pictures(Ranking(), FEATURES, TARGETS, data, most=1)[0])[3]  # image 5
    inside = (tile[0] == 50).nonzero()
    assert (inside.amax(0) - inside.amin(0) + 1).tolist() == [96, 48]


def test_of_equally_far_entries_the_wrong_come_first() -> None:
    (picture,) = ranking_pictures(Ranking(), torch.ones(6, 1), TARGETS[:6], Levels(6), most=8)  # type: ignore[arg-type]
    assert [frame(tile) for tile in tiles(picture)[1:]] == [WRONG, WRONG, RIGHT, RIGHT]


@pytest.mark.parametrize("ranking", [Ranking("cosine"), Ranking(re_ranking=ReRanking(k1=4, k2=2))])
def test_distances_of_some_queries_are_those_by_which_all_are_scored(ranking: Ranking) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(30, 5, generator=generator)
    targets = torch.stack([torch.randint(0, high, (30,), generator=generator) for high in (4, 3, 1)], 1)
    targets[:, 2] = 1 + torch.arange(30) % 3
    some = torch.tensor([4, 0, 7])
    whole, truth = ranking.distances(features, targets, torch.arange(20))
    part, few = ranking.distances(features, targets, some)
    assert torch.equal(part, whole[some]) or ranking.distance == "cosine"
    assert torch.equal(part.argsort(1), whole[some].argsort(1))
    assert isinstance(few, GroundTruth)
    for one, other in zip(few.judge(slice(None)), truth.judge(slice(None)), strict=True):
        assert torch.equal(one, other[some])
