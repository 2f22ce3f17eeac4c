"""Networks with several features of an image: stripes of it, and copies of their end."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.models import EmbeddingEnsemble, MultiGranularity, PartFeatures, ResNet, add_bnneck
from lit_modules.models.branch import Branch, concatenate
from lit_modules.models.multi_granularity import keep_resolution
from lit_modules.models.part_features import pool_stripes

LAST_LAYER = partial(nn.Linear, bias=False)


def make_network(layers: tuple[int, ...] = (1, 2, 1), **arguments: Any) -> ResNet:
    torch.manual_seed(0)
    return ResNet(5, list(layers), "basic", width=4, in_channels=1, stem="small", **arguments).eval()


def make_images(height: int = 24, width: int = 16) -> Tensor:
    return torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))


def test_stripes_are_pooled_each_by_itself() -> None:
    maps = torch.rand(2, 3, 6, 4)
    stripes = pool_stripes(maps, 3, F.adaptive_avg_pool2d)
    for number, stripe in enumerate(stripes):
        torch.testing.assert_close(stripe, maps[:, :, 2 * number : 2 * number + 2].mean((2, 3)))
    with pytest.raises(ValueError, match="6 high, which cannot be cut into 7 stripes"):
        pool_stripes(maps, 7, F.adaptive_avg_pool2d)


def test_parts_stand_beside_the_whole() -> None:
    network = make_network()
    reference = copy.deepcopy(network)
    parts = PartFeatures(network, LAST_LAYER, parts=3, width=7).eval()
    branches = parts.embed(make_images())
    assert [branch.is_global for branch in branches] == [True, False, False, False]
    assert [tuple(branch.before.shape) for branch in branches] == [(2, 16), (2, 7), (2, 7), (2, 7)]
    assert all(branch.scores.shape == (2, 5) for branch in branches)
    (whole,) = reference.embed(make_images())
    torch.testing.assert_close(branches[0].scores, whole.scores)
    stripe = reference.forward_features(make_images())[:, :, 2:4].mean((2, 3))
    torch.testing.assert_close(branches[2].after, parts.reductions[1](stripe))
    torch.testing.assert_close(branches[2].scores, parts.last_layers[1](branches[2].after))
    assert concatenate(branches, "after").shape == (2, 16 + 3 * 7)


def test_granularities_give_the_features_of_the_paper() -> None:
    network = MultiGranularity(make_network(), LAST_LAYER, width=7).eval()
    branches = network.embed(make_images())
    assert [branch.is_global for branch in branches] == [True, True, False, False, True, False, False, False]
    assert all(branch.before.shape == (2, 7) and branch.scores.shape == (2, 5) for branch in branches)
    assert network.num_global_features == 3 * 7
    # 24 x 16 pixels are 6 x 4 after two halvings, and 12 x 8 where the last stage keeps the resolution.
    maps = network.trunk(make_images())
    assert [tuple(end.stages(maps).shape[2:]) for end in network.ends] == [(6, 4), (12, 8), (12, 8)]  # type: ignore[operator]


def test_the_first_copy_is_the_network_itself() -> None:
    reference = make_network()
    first = MultiGranularity(make_network(), LAST_LAYER, granularities=[1], width=7).eval()
    maps = reference.forward_features(make_images())
    torch.testing.assert_close(first.ends[0].stages(first.trunk(make_images())), maps)  # type: ignore[operator]
    (branch,) = first.embed(make_images())
    whole = maps.amax((2, 3))
    torch.testing.assert_close(branch.scores, first.ends[0].last_layers[0](whole))  # type: ignore[index]


@pytest.mark.parametrize("switch", [{}, {"avg_pool_shortcut": True}, {"blur_pool": True}])
def test_a_stage_without_strides_is_that_of_a_network_built_so(switch: dict[str, bool]) -> None:
    strided, kept = make_network(**switch), make_network(**switch, last_stride_1=True)
    keep_resolution(strided.layer3)
    maps = torch.rand(2, 8, 6, 4)
    for one, other in zip(strided.layer3.parameters(), kept.layer3.parameters(), strict=True):
        other.data.copy_(one.data)
    torch.testing.assert_close(strided.layer3(maps), kept.layer3(maps))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"granularities": []}, "must be at least 1"),
        ({"granularities": [0]}, "must be at least 1"),
        ({"width": 0}, "must be at least 1"),
    ],
)
def test_granularities_out_of_range_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MultiGranularity(make_network(), LAST_LAYER, **arguments)


def test_networks_that_cannot_be_copied_are_refused() -> None:
    with pytest.raises(ValueError, match="1 stage, and it takes two"):
        MultiGranularity(make_network((1,)), LAST_LAYER)
    network = make_network()
    add_bnneck(network)
    with pytest.raises(ValueError, match="no place for a neck"):
        MultiGranularity(network, LAST_LAYER)


@pytest.mark.parametrize("arguments", [{"parts": 1}, {"width": 0}])
def test_parts_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 2 and"):
        PartFeatures(make_network(), LAST_LAYER, **arguments)


def test_an_ensemble_divides_each_members_feature_by_its_norm() -> None:
    members = [make_network(), PartFeatures(make_network((1, 1)), LAST_LAYER, parts=2, width=3).eval()]
    branches: list[Branch] = EmbeddingEnsemble(members).embed(make_images())
    for member, branch in zip(members, branches, strict=True):
        feature = concatenate(member.embed(make_images()), "after")  # type: ignore[operator]
        torch.testing.assert_close(branch.after, feature / feature.norm(dim=1, keepdim=True))
    with pytest.raises(ValueError, match="there are no members"):
        EmbeddingEnsemble([])
