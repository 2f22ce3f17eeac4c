"""Target assignment and losses against a loop over boxes."""

import pytest
import torch

from lit_modules.models.detection import PAPER_ANCHORS, Grid, YOLOOutputs, YOLOv3Loss, assign_boxes, scale_anchors
from tests.lit_modules.models.detection import naive

CLASSES = 3
IMAGE = (96, 64)  # width, height


def make_outputs(seed: int = 0, images: int = 4) -> YOLOOutputs:
    anchors = torch.tensor(scale_anchors(PAPER_ANCHORS, 0.2))
    grid = Grid.make([(8, 12), (4, 6), (2, 3)], [8, 16, 32], anchors)
    raw = torch.randn(images, len(grid.cells), 5 + CLASSES, generator=torch.Generator().manual_seed(seed))
    return YOLOOutputs(raw, grid)


def make_targets(seed: int = 0, images: int = 4, boxes: int = 7) -> dict[str, torch.Tensor]:
    """Boxes of all sizes; the second image has none, and padding is anything."""
    generator = torch.Generator().manual_seed(seed)
    frame = torch.tensor(IMAGE * 2, dtype=torch.float32)
    corners = torch.rand(images, boxes, 2, 2, generator=generator).sort(2).values.flatten(2) * frame
    labels = torch.randint(-1, CLASSES, (images, boxes), generator=generator)
    if images > 1:
        labels[1] = -1
    return {"boxes": corners, "labels": labels, "weights": torch.rand(images, boxes, generator=generator) + 0.1}


def place_on_truths(outputs: YOLOOutputs, targets: dict[str, torch.Tensor]) -> YOLOOutputs:
    """Let half of the slots predict their cell's box as well as they can, so that some slots are to be ignored."""
    raw, grid = outputs
    raw = raw.clone()
    for image in range(len(raw)):
        for box in targets["boxes"][image]:
            centre = (box[:2] + box[2:]) / 2
            slots = (((centre / grid.strides).floor() == grid.cells).all(1)).nonzero().flatten()[::2]
            place = (centre / grid.strides[slots] - grid.cells[slots]).clamp(0.01, 0.99)
            raw[image, slots, :2] = place.logit()
            raw[image, slots, 2:4] = ((box[2:] - box[:2]) / grid.anchors[slots]).log()
    return YOLOOutputs(raw, grid)


@pytest.mark.parametrize("ignore_iou", [0.5, 0.7])
@pytest.mark.parametrize(
    ("label_smoothing", "center", "size"), [(False, "bce", "l1"), (True, "squared", "squared"), (True, "l1", "l1")]
)
def test_losses_are_those_of_a_loop_over_boxes(ignore_iou, label_smoothing, center, size):
    for seed in range(3):
        targets = make_targets(seed)
        outputs = place_on_truths(make_outputs(seed), targets)
        found = YOLOv3Loss(ignore_iou, label_smoothing, center, size)(outputs, targets)
        expected = naive.losses(outputs, targets, ignore_iou, label_smoothing, center, size)
        assert {name: part.item() for name, part in found.items()} == pytest.approx(expected, rel=1e-4)


def test_ignoring_makes_a_difference_to_these_outputs():
    targets = make_targets()
    outputs = place_on_truths(make_outputs(), targets)
    ignoring, counting = (YOLOv3Loss(threshold)(outputs, targets)["objectness"] for threshold in (0.5, 1.0))
    assert ignoring < counting - 1


def test_of_two_boxes_for_one_slot_the_last_has_it():
    _, grid = make_outputs()
    boxes = torch.tensor([[[10.0, 10, 30, 30], [10, 10, 30, 31], [40, 40, 42, 43], [10, 10, 30, 30]]])
    real = torch.tensor([[True, True, True, False]])
    assignment = assign_boxes(boxes, real, grid)
    assert assignment.slots[0, 0] == assignment.slots[0, 1]
    assert assignment.positive.tolist() == [[False, True, True, False]]


def test_a_centre_on_the_far_border_belongs_to_the_last_cell():
    _, grid = make_outputs()
    boxes = torch.tensor([[[92.0, 60, 100, 68], [-4, -4, 4, 4]]])  # centres on both corners
    slots = assign_boxes(boxes, torch.ones(1, 2, dtype=torch.bool), grid).slots[0]
    strides = grid.strides[slots]
    assert torch.equal((grid.cells[slots[0]] + 1) * strides[0], torch.tensor(IMAGE, dtype=torch.float32))
    assert grid.cells[slots[1]].tolist() == [0, 0]


def test_images_without_boxes_have_objectness_alone():
    outputs = make_outputs()
    for boxes in (0, 3):
        targets = {"boxes": torch.zeros(4, boxes, 4), "labels": torch.full((4, boxes), -1)}
        parts = YOLOv3Loss()(outputs, targets)
        assert parts["class"] == parts["center"] == parts["size"] == 0
        expected = torch.nn.functional.softplus(outputs.raw[..., 4]).sum() / 4
        torch.testing.assert_close(parts["objectness"], expected)


def test_a_box_without_area_counts_for_nothing():
    outputs, targets = make_outputs(), make_targets()
    flat = {**targets, "boxes": targets["boxes"].clone()}
    flat["boxes"][0, 0, 2] = flat["boxes"][0, 0, 0]
    gone = {**targets, "labels": targets["labels"].clone()}
    gone["labels"][0, 0] = -1
    assert YOLOv3Loss()(outputs, flat) == YOLOv3Loss()(outputs, gone)


def test_nothing_is_predicted_for_a_crowd_and_nothing_is_wrong_in_it():
    for seed in range(3):
        outputs, targets = make_outputs(seed), make_targets(seed)
        targets["crowd"] = torch.rand(4, 7, generator=torch.Generator().manual_seed(seed)) < 0.4
        assert bool((targets["crowd"] & (targets["labels"] >= 0)).any())
        found = YOLOv3Loss()(outputs, targets)
        expected = naive.losses(outputs, targets, 0.7, False, "bce", "l1")
        assert {name: part.item() for name, part in found.items()} == pytest.approx(expected, rel=1e-4)


def test_weights_of_one_are_no_weights():
    outputs, targets = make_outputs(), make_targets()
    targets["weights"] = torch.ones_like(targets["weights"])
    weighted = YOLOv3Loss()(outputs, targets)
    del targets["weights"]
    assert YOLOv3Loss()(outputs, targets) == weighted


def test_right_outputs_have_the_smallest_loss():
    targets = make_targets(images=1, boxes=2)
    targets["labels"] = torch.tensor([[0, 2]])
    raw, grid = make_outputs(images=1)
    raw = torch.zeros_like(raw).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        sum(YOLOv3Loss(size="squared")(YOLOOutputs(raw, grid), targets).values()).backward()
        optimizer.step()
    slots = assign_boxes(targets["boxes"], targets["labels"] >= 0, grid).slots[0]
    torch.testing.assert_close(grid.decode(raw)[0, slots], targets["boxes"][0], atol=0.5, rtol=0)
    assert raw[0, slots, 5:].argmax(1).tolist() == [0, 2]
    assert sorted(raw[0, :, 4].topk(2).indices.tolist()) == sorted(slots.tolist())


def test_padding_has_finite_gradients():
    raw, grid = make_outputs()
    raw.requires_grad_()
    targets = {"boxes": torch.zeros(4, 3, 4), "labels": torch.full((4, 3), -1)}
    sum(YOLOv3Loss()(YOLOOutputs(raw, grid), targets).values()).backward()
    assert bool(raw.grad.isfinite().all())
    assert bool((raw.grad[..., :4] == 0).all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ignore_iou": 1.5}, "ignore_iou is 1.5; it must be from 0 to 1"),
        ({"center": "iou"}, "center is 'iou'; it must be one of 'bce', 'l1', 'squared'"),
        ({"size": "bce"}, "size is 'bce'; it must be one of 'l1', 'squared'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        YOLOv3Loss(**arguments)
