"""Pictures of ranked galleries: a query and the first ten of its ranking, right and wrong ones framed."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional

from lit_modules.inference import Ranking
from lit_modules.metrics.retrieval import GroundTruth, rank_by_distances
from lit_modules.metrics.retrieval.scores import average_precisions
from lit_modules.pictures import TaskPicture, displayed, images_of_test

SHOWN = 10
"""How many of a ranking are shown."""
RIGHT, WRONG = (0, 158, 115), (213, 94, 0)
"""Colours of the frames, which the colour-blind tell apart."""

_LOOKED_AT = 100  # queries among which those to show are chosen
_TILE, _FRAME, _GAP = 96, 4, 12  # pixels
_WHITE, _GREY = (255, 255, 255), (128, 128, 128)


def ranking_pictures(
    ranking: Ranking, features: Tensor, targets: Tensor, datamodule: L.LightningDataModule, most: int
) -> list[TaskPicture]:
    """Draw queries, each with the first ten of its ranking, from the worst ranked to the best.

    They are chosen evenly, by their average precision, among queries that are spread over the test. On the left is the
    query; the others are framed green if they are right and orange if they are wrong. What is left out of a ranking is
    not shown.

    Args:
        ranking: How the gallery is ranked.
        features: Of all test images, ``(N, D)``, in the order of the data set.
        targets: ``(N, 3)``: identity, camera and role; see `Ranking.score`.
        datamodule: Its test images; if it has ``name_identities``, their names stand in the captions.
        most: How many at most.
    """
    is_query, in_gallery = ((targets[:, 2] & role) > 0 for role in (1, 2))
    places, entries = is_query.nonzero().flatten(), in_gallery.nonzero().flatten()
    looked_at = _spread(len(places), _LOOKED_AT)
    distances, truth = ranking.distances(features, targets, looked_at)
    ranks = rank_by_distances(distances, truth)
    precisions = average_precisions(ranks)
    matched = (ranks > 0).any(1).nonzero().flatten()
    order = matched[precisions[matched].argsort(stable=True)]
    chosen = order[_spread(len(order), most)]
    return [
        _picture(
            int(places[looked_at[one]]),
            entries,
            *_first_ones(distances[one], truth, one),
            float(precisions[one]),
            _name(datamodule, int(truth.query_identities[one])),
            datamodule,
        )
        for one in chosen.tolist()
    ]


def _spread(count: int, most: int) -> Tensor:
    """Return at most so many numbers below a count, evenly spread, the first and the last among them."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def _first_ones(distances: Tensor, truth: GroundTruth, query: int) -> tuple[Tensor, Tensor]:
    """Return the places of the first of a ranking, ``(n,)``, and which are right; of equals the wrong come first."""
    (right,), (left_out,) = truth.judge(slice(query, query + 1))
    by_truth = right.long().argsort(stable=True)
    by_truth = by_truth[~left_out[by_truth]]
    first = by_truth[distances[by_truth].argsort(stable=True)][:SHOWN]
    return first, right[first]


def _picture(
    query: int,
    entries: Tensor,
    first: Tensor,
    right: Tensor,
    precision: float,
    name: str,
    datamodule: L.LightningDataModule,
) -> TaskPicture:
    images = images_of_test(datamodule, [query, *entries[first].tolist()])
    colours = [_GREY, *(RIGHT if each else WRONG for each in right.tolist())]
    tiles = [_framed(_fitted(displayed(image)), colour) for image, colour in zip(images, colours, strict=True)]
    gap = torch.full((3, tiles[0].shape[1], _GAP), 255, dtype=torch.uint8)
    ranks = [str(rank) for rank, is_right in enumerate(right.tolist(), start=1) if is_right]
    said = f"right at rank {', '.join(ranks)}" if ranks else "none is right"
    caption = f"{name} and the first {len(first)} of its ranking: {said}; average precision {precision:.0%}"
    return TaskPicture(torch.cat([tiles[0], gap, *tiles[1:]], 2), caption)


def _fitted(image: Tensor) -> Tensor:
    """Shrink ``(3, H, W)`` uint8 into a tile, and fill what is left of it with white."""
    height, width = (round(side * min(1, _TILE / max(image.shape[1:]))) for side in image.shape[1:])
    if (height, width) != tuple(image.shape[1:]):
        small = functional.interpolate(image[None].float(), (height, width), mode="bilinear", antialias=True)
        image = small[0].round().clamp(0, 255).to(torch.uint8)
    return _surrounded(image, _TILE - height, _TILE - width, _WHITE)


def _framed(tile: Tensor, colour: tuple[int, int, int]) -> Tensor:
    return _surrounded(_surrounded(tile, 2 * _FRAME, 2 * _FRAME, colour), 2, 2, _WHITE)


def _surrounded(image: Tensor, rows: int, columns: int, colour: tuple[int, int, int]) -> Tensor:
    """Put an image ``(3, H, W)`` into the middle of one with so many more rows and columns."""
    _, height, width = image.shape
    larger = torch.tensor(colour, dtype=torch.uint8)[:, None, None].repeat(1, height + rows, width + columns)
    larger[:, rows // 2 : rows // 2 + height, columns // 2 : columns // 2 + width] = image
    return larger


def _name(datamodule: Any, identity: int) -> str:
    if not hasattr(datamodule, "name_identities"):
        return f"identity {identity}"
    (name,) = datamodule.name_identities([identity])
    return name
