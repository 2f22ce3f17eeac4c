"""YOLOv3 against the sizes of the authors' files and against shapes that follow from the paper."""

from functools import partial

import pytest
import torch
from torch import nn

from lit_modules.models import Darknet, YOLOv3
from lit_modules.models.detection import ASPP, FPN, BiFPN, NoFPN

AUTHORS_FILE = 248_007_048
"""Bytes of yolov3.weights, for COCO's 80 classes: a header of 20, then float32 weights and running statistics."""


def make_small(**arguments) -> YOLOv3:
    backbone = Darknet(layers=[1, 1, 1, 1, 1], width=4)
    return YOLOv3(**{"num_classes": 3, "input_size": 64, "backbone": backbone} | arguments)


def test_parameters_of_the_standard_network_are_those_of_the_authors_file():
    with torch.device("meta"):
        network = YOLOv3(num_classes=80)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    statistics = sum(buffer.numel() for name, buffer in network.named_buffers() if "running" in name)
    assert parameters == 61_949_149
    assert parameters + statistics == (AUTHORS_FILE - 20) / 4


def test_darknet_53_has_52_convolutions_before_its_classifier():
    with torch.device("meta"):
        backbone = Darknet()
        maps = backbone(torch.empty(1, 3, 256, 256))
    assert sum(isinstance(module, nn.Conv2d) for module in backbone.modules()) == 52
    assert [tuple(features.shape[1:]) for features in maps] == [(256, 32, 32), (512, 16, 16), (1024, 8, 8)]
    assert backbone.scale_channels == (256, 512, 1024)


def test_an_image_of_416_has_10647_slots():
    with torch.device("meta"):
        raw, grid, _ = YOLOv3(num_classes=20)(torch.empty(1, 3, 416, 416))
    assert raw.shape == (1, 10647, 25)
    assert grid.shapes == ((52, 52), (26, 26), (13, 13))


def test_a_slot_is_where_the_grid_says():
    """An output that depends on one place of one head's map changes the slots of that place alone."""
    network = make_small().eval()
    images = torch.rand(1, 3, 64, 96)
    before, grid, _ = network(images)
    network.heads[2].register_forward_hook(  # the coarsest: 2×3 cells
        lambda module, args, output: output.index_put(
            [torch.tensor([0]), torch.tensor([8 + 4]), torch.tensor([1]), torch.tensor([2])], torch.tensor([9.0])
        )
    )
    after, _, _ = network(images)
    nudged = (before != after).nonzero().tolist()
    assert len(nudged) == 1
    _, slot, output = nudged[0]
    assert output == 4  # the second anchor's objectness
    assert grid.cells[slot].tolist() == [2, 1]
    assert grid.strides[slot].item() == 32
    assert torch.equal(grid.anchors[slot], network.anchors[7])


def test_decoded_boxes_follow_the_papers_formula():
    network = make_small()
    raw, grid, _ = network(torch.rand(2, 3, 64, 64))
    raw = torch.randn_like(raw)
    boxes = grid.decode(raw)
    for image, slot in [(0, 0), (1, 5), (0, 191), (1, 200), (1, 250)]:
        x, y, w, h = raw[image, slot, :4].tolist()
        (column, row), stride, (width, height) = grid.cells[slot], float(grid.strides[slot]), grid.anchors[slot]
        centre_x, centre_y = [
            (1 / (1 + torch.e**-value) + float(cell)) * stride for value, cell in ((x, column), (y, row))
        ]
        width, height = float(width) * torch.e**w, float(height) * torch.e**h
        expected = [centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2]
        assert boxes[image, slot].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_the_papers_anchors_are_scaled_to_the_input():
    assert torch.equal(YOLOv3(3, Darknet([0] * 5, 2)).anchors[0], torch.tensor([10.0, 13.0]))
    assert torch.equal(YOLOv3(3, Darknet([0] * 5, 2), input_size=832).anchors[8], torch.tensor([746.0, 652.0]))


def test_every_slot_starts_with_about_the_prior():
    raw, _, _ = make_small(objectness_prior=0.02)(torch.rand(2, 3, 64, 64))
    assert raw[..., 4].sigmoid().mean().item() == pytest.approx(0.02, rel=0.1)


VARIANTS = {
    "plain": {},
    "no_fpn": {"neck": NoFPN},
    "bifpn": {"neck": BiFPN},
    "transposed": {"neck": partial(FPN, upsampling="transposed")},
    "aspp": {"context": ASPP},
    "finest_alone": {"anchor_level": 0},
    "coarsest_alone": {"anchor_level": 2},
    "variances": {"box_variances": True},
    "dilated": {"backbone": Darknet([1, 1, 1, 1, 1], 4, dilated_last_stage=True)},
    "all": {"neck": partial(FPN, upsampling="convolution"), "context": ASPP, "anchor_level": 1, "box_variances": True},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_gradients_reach_every_parameter_of_every_variant(variant):
    network = make_small(**variant)
    raw, _, variances = network(torch.rand(2, 3, 64, 64))
    everything = raw if variances is None else torch.cat([raw, variances], -1)
    everything.square().mean().backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(("level", "stride", "side"), [(0, 8, 8), (1, 16, 4), (2, 32, 2)])
def test_all_anchors_stand_on_one_level(level, stride, side):
    network = make_small(anchor_level=level)
    raw, grid, _ = network(torch.rand(1, 3, 64, 64))
    assert raw.shape[1] == side * side * 9
    assert torch.equal(grid.anchors[:9], network.anchors)
    assert grid.strides.unique().tolist() == [stride]
    assert (grid.shapes, grid.scale_strides) == (((side, side),), (stride,))


def test_a_level_alone_joins_what_is_coarser():
    """The finest level still sees the coarsest map; of one scale no more than its own head is there."""
    network = make_small(anchor_level=0).eval()
    images = torch.rand(1, 3, 64, 64)
    before = network(images).raw
    network.backbone.stages[-1].register_forward_hook(lambda module, args, output: output + 1)
    assert not torch.allclose(network(images).raw, before)
    assert len(network.heads) == 1


def test_variances_are_outputs_of_their_own():
    torch.manual_seed(0)
    network = make_small(box_variances=True, objectness_prior=0.02)
    raw, grid, variances = network(torch.rand(2, 3, 64, 64))
    assert raw.shape == (2, len(grid.cells), 5 + 3)
    assert variances.shape == (2, len(grid.cells), 4)
    assert raw[..., 4].sigmoid().mean().item() == pytest.approx(0.02, rel=0.1)
    with torch.no_grad():
        network.heads[0][1].bias.view(3, 12)[:, 8:] += 7
    moved = network(torch.rand(2, 3, 64, 64)).variances[:, grid.strides[:, 0] == 8]
    assert bool((moved > 5).all())


def test_slots_of_a_dilated_backbone_lie_closer():
    network = make_small(backbone=Darknet([0] * 5, 4, dilated_last_stage=True))
    grid = network(torch.rand(1, 3, 64, 96)).grid
    assert grid.shapes == ((8, 12), (4, 6), (4, 6))
    assert grid.scale_strides == (8, 16, 16)


def test_images_must_have_sides_that_are_multiples_of_32():
    with pytest.raises(ValueError, match=r"YOLOv3: images are 100×64 pixels; both sides must be multiples of 32\."):
        make_small()(torch.rand(1, 3, 64, 100))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0; it must be at least 1"),
        ({"input_size": 100}, "input_size is 100; it must be a multiple of 32"),
        ({"objectness_prior": 1.0}, "objectness_prior is 1.0; it must be above 0 and below 1"),
        ({"anchors": [(1, 2)] * 4}, "there are 4 anchors; there must be equally many for each of 3 scales"),
        ({"anchors": []}, "there are 0 anchors"),
        ({"anchor_level": 3}, "anchor_level is 3; it must be from 0 to 2"),
        ({"anchor_level": 0, "neck": BiFPN}, "anchor_level is 0, but the neck is BiFPN, which does not join all maps"),
        ({"anchors": [(1, 2), (3, 4), (0, 1)]}, "each must be a width and a height above 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_small(**arguments)


def test_scales_that_do_not_double_are_refused():
    backbone = Darknet([0] * 5, 2)
    backbone.scale_strides = (8, 16, 64)
    with pytest.raises(ValueError, match=r"scale_strides are \(8, 16, 64\); each must be the one before or twice"):
        YOLOv3(3, backbone, input_size=64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": [1, 2]}, r"layers is \[1, 2\]; it must list five numbers"),
        ({"width": 0}, "width is 0"),
        ({"in_channels": 0}, "in_channels is 0"),
    ],
)
def test_wrong_arguments_of_darknet_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Darknet(**arguments)
