"""Necks against the papers' formulas, and the à-trous property of a dilated backbone."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.segmentation import deeplabv3

from lit_modules.models import Darknet
from lit_modules.models.detection import ASPP, FPN, BiFPN, NoFPN

CHANNELS, STRIDES = (4, 6, 8), (8, 16, 32)


def make_maps(channels=CHANNELS, sides=(8, 4, 2)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, count, side, side, generator=generator) for count, side in zip(channels, sides, strict=True)]


def find_influences(neck: nn.Module, maps: list[torch.Tensor]) -> list[list[bool]]:
    """Return for each map that comes out whether it depends on each of those that go in."""
    rows = []
    for level in range(len(maps)):
        inputs = [features.clone().requires_grad_() for features in maps]
        neck(inputs)[level].square().sum().backward()
        rows.append([features.grad is not None and bool(features.grad.any()) for features in inputs])
    return rows


@pytest.mark.parametrize("upsampling", ["nearest", "transposed", "convolution"])
def test_an_fpn_carries_what_is_coarse_down(upsampling):
    neck = FPN(CHANNELS, STRIDES, upsampling)
    assert find_influences(neck, make_maps()) == [[True] * 3, [False, True, True], [False, False, True]]
    assert [tuple(features.shape) for features in neck(make_maps())] == [(2, 2, 8, 8), (2, 3, 4, 4), (2, 4, 2, 2)]


def test_without_an_fpn_each_map_stands_for_itself():
    neck = NoFPN(CHANNELS, STRIDES)
    assert find_influences(neck, make_maps()) == [[True, False, False], [False, True, False], [False, False, True]]
    assert neck.out_channels == FPN(CHANNELS, STRIDES).out_channels


def test_a_bifpn_carries_everything_everywhere():
    neck = BiFPN(CHANNELS, STRIDES, layers=1, width=5)
    assert find_influences(neck, make_maps()) == [[True] * 3] * 3
    assert [tuple(features.shape) for features in neck(make_maps())] == [(2, 5, 8, 8), (2, 5, 4, 4), (2, 5, 2, 2)]


def test_a_bifpn_is_the_papers_formula():
    """The nodes of figure 2 (d) and equation 3, written out for three levels."""
    torch.manual_seed(0)
    neck = BiFPN(CHANNELS, STRIDES, layers=1, width=5).eval()
    (layer,) = neck.layers
    for fusion in [*layer.downs, *layer.ups]:
        nn.init.uniform_(fusion.weights, 0.2, 1)
    nn.init.constant_(layer.downs[0].weights[1:], -0.3)  # counts as 0
    p3, p4, p5 = (entry(features) for entry, features in zip(neck.entries, make_maps(), strict=True))

    def fuse(fusion, *maps):
        weights = [max(weight, 0) for weight in fusion.weights.tolist()]
        total = sum(weight * features for weight, features in zip(weights, maps, strict=True))
        return fusion.convolution(total / (sum(weights) + 1e-4))

    def up(features):
        return features.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def down(features):
        padded = F.pad(features, (1, 1, 1, 1), value=-torch.inf)
        return padded.unfold(2, 3, 2).unfold(3, 3, 2).amax((-1, -2))

    middle = fuse(layer.downs[1], p4, up(p5))
    first = fuse(layer.downs[0], p3, up(middle))
    second = fuse(layer.ups[0], p4, middle, down(first))
    third = fuse(layer.ups[1], p5, down(second))
    for found, expected in zip(neck(make_maps()), (first, second, third), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_node_of_a_bifpn_has_a_separable_convolution():
    def count(neck):
        return sum(parameter.numel() for parameter in neck.parameters())

    one, two = (count(BiFPN(CHANNELS, STRIDES, layers=layers, width=7)) for layers in (1, 2))
    node = 9 * 7 + 7 * 7 + 2 * 7  # depthwise, pointwise, norm
    assert two - one == 4 * node + 2 + 2 + 3 + 2  # and a weight for each map of a sum


@pytest.mark.parametrize(
    "make",
    [FPN, partial(FPN, upsampling="transposed"), partial(FPN, upsampling="convolution"), BiFPN, NoFPN],
    ids=["nearest", "transposed", "convolution", "bifpn", "none"],
)
def test_maps_of_one_size_are_joined_as_they_are(make):
    maps = make_maps(sides=(8, 4, 4))
    assert [features.shape[-1] for features in make(CHANNELS, (8, 16, 16))(maps)] == [8, 4, 4]


def test_each_way_up_is_what_its_name_says():
    """Every value of a map brought up by repetition occurs four times, and only there."""

    def bring_up(upsampling):
        torch.manual_seed(0)
        return FPN(CHANNELS, STRIDES, upsampling).enlargers[0].eval()(make_maps()[0])

    small = make_maps()[0]
    torch.testing.assert_close(bring_up("nearest"), small.repeat_interleave(2, 2).repeat_interleave(2, 3))
    kinds = {
        kind: [type(part) for part in FPN(CHANNELS, STRIDES, kind).enlargers[0].modules()]
        for kind in ("nearest", "transposed", "convolution")
    }
    assert [nn.ConvTranspose2d in kinds[kind] for kind in kinds] == [False, True, False]
    assert [nn.Conv2d in kinds[kind] for kind in kinds] == [False, False, True]


def test_aspp_is_torchvisions_without_dropout():
    torch.manual_seed(0)
    own = ASPP(8, rates=[1, 2], width=5).eval()
    other = deeplabv3.ASPP(8, [1, 2], out_channels=5)
    project = nn.Sequential(nn.Conv2d(20, 8, 1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.1))
    other.project = project
    for name, module in list(other.named_modules()):
        if isinstance(module, nn.ReLU):
            other.set_submodule(name, nn.LeakyReLU(0.1))
    for norm in (module for module in own.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight), nn.init.normal_(norm.bias), nn.init.normal_(norm.running_mean)
    for theirs, ours in zip(other.convs[:3], own.branches, strict=True):
        theirs.load_state_dict(ours.state_dict())
    project.load_state_dict(own.project.state_dict())
    convolution, norm = other.convs[3][1], other.convs[3][2]
    norm.eps, norm.bias.data = 0.0, own.mean[1].bias.data  # a norm that only shifts, for our bias
    convolution.weight.data = own.mean[1].weight.data
    features = make_maps((8, 8, 8))[0]
    torch.testing.assert_close(own(features), other.eval()(features))


def test_aspp_trains_on_one_image():
    features = make_maps((8, 8, 8))[0][:1]
    assert ASPP(8).train()(features).shape == features.shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FPN(CHANNELS, STRIDES, "bilinear"), "FPN: upsampling is 'bilinear'; it must be one of 'nearest'"),
        (lambda: BiFPN(CHANNELS, STRIDES, layers=0), "BiFPN: layers is 0; it must be at least 1"),
        (lambda: BiFPN(CHANNELS, STRIDES, width=0), "BiFPN: width is 0; it must be at least 1"),
        (lambda: ASPP(8, rates=[]), r"ASPP: rates is \[\]; it must list numbers from 1 up"),
        (lambda: ASPP(8, rates=[0]), r"ASPP: rates is \[0\]; it must list numbers from 1 up"),
        (lambda: ASPP(8, width=0), "ASPP: width is 0; it must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_dilated_last_stage_sees_what_the_strided_one_saw():
    """Every second value of the dilated map is the strided map, up to the border: the à-trous algorithm."""
    torch.manual_seed(0)
    strided, dilated = Darknet([0, 0, 0, 1, 2], 2), Darknet([0, 0, 0, 1, 2], 2, dilated_last_stage=True)
    dilated.load_state_dict(strided.state_dict())
    images = torch.rand(2, 3, 96, 64)
    for network in (strided, dilated):
        network.eval()
    coarse, fine = strided(images), dilated(images)
    assert strided.scale_strides == (8, 16, 32)
    assert dilated.scale_strides == (8, 16, 16)
    assert fine[2].shape == (2, 64, 6, 4)
    torch.testing.assert_close(fine[2][:, :, ::2, ::2], coarse[2])
    for one, other in zip(fine[:2], coarse[:2], strict=True):
        assert torch.equal(one, other)
