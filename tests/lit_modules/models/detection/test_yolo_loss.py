"""Target assignment and losses against a loop over boxes."""

import pytest
import torch

from lit_modules.models.detection import (
    PAPER_ANCHORS,
    CenterAndSize,
    GaussianBoxLoss,
    Grid,
    OverlapLoss,
    YOLOOutputs,
    YOLOv3Loss,
    assign_boxes,
    scale_anchors,
)
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
    raw, grid, _ = outputs
    raw = raw.clone()
    for image in range(len(raw)):
        for box in targets["boxes"][image]:
            centre = (box[:2] + box[2:]) / 2
            slots = (((centre / grid.strides).floor() == grid.cells).all(1)).nonzero().flatten()[::2]
            place = (centre / grid.strides[slots] - grid.cells[slots]).clamp(0.01, 0.99)
            raw[image, slots, :2] = place.logit()
            raw[image, slots, 2:4] = ((box[2:] - box[:2]) / grid.anchors[slots]).log()
    return YOLOOutputs(raw, grid)


def check(loss: YOLOv3Loss, count_box=None, variances: bool = False, **arguments):
    """Compare a loss with the loop on three batches."""
    for seed in range(3):
        targets = make_targets(seed)
        outputs = place_on_truths(make_outputs(seed), targets)
        if variances:
            noise = torch.randn(*outputs.raw.shape[:2], 4, generator=torch.Generator().manual_seed(seed))
            outputs = outputs._replace(variances=noise - 2)
        found = loss(outputs, targets)
        expected = naive.losses(outputs, targets, count_box, **arguments)
        assert {name: part.item() for name, part in found.items()} == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("ignore_iou", [0.5, 0.7])
@pytest.mark.parametrize(
    ("label_smoothing", "center", "size"), [(False, "bce", "l1"), (True, "squared", "squared"), (True, "l1", "l1")]
)
def test_losses_are_those_of_a_loop_over_boxes(ignore_iou, label_smoothing, center, size):
    loss = YOLOv3Loss(ignore_iou, label_smoothing, CenterAndSize(center, size))
    check(loss, naive.center_and_size(center, size), ignore_iou=ignore_iou, label_smoothing=label_smoothing)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_overlap_losses_are_those_of_a_loop_over_boxes(kind):
    check(YOLOv3Loss(boxes=OverlapLoss(kind, weight=1.5)), naive.overlap_loss(kind, 1.5))


def test_gaussian_losses_are_those_of_a_loop_over_boxes():
    check(YOLOv3Loss(boxes=GaussianBoxLoss()), naive.gaussian, variances=True)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (1.5, 0.25), (0.0, 0.7)])
def test_focal_objectness_is_that_of_a_loop_over_slots(gamma, alpha):
    check(YOLOv3Loss(focal_gamma=gamma, focal_alpha=alpha), gamma=gamma, alpha=alpha)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("negatives", [3, 0.5])
def test_mined_objectness_is_that_of_a_loop_over_sorted_slots(negatives, gamma):
    check(YOLOv3Loss(negatives_per_box=negatives, focal_gamma=gamma), negatives_per_box=negatives, gamma=gamma)


def test_a_batch_without_boxes_is_mined_as_if_it_had_one():
    outputs = make_outputs()
    targets = {"boxes": torch.zeros(4, 2, 4), "labels": torch.full((4, 2), -1)}
    found = YOLOv3Loss(negatives_per_box=3)(outputs, targets)["objectness"]
    expected = torch.nn.functional.softplus(outputs.raw[..., 4]).flatten().topk(3).values.sum() / 4
    torch.testing.assert_close(found, expected)


def test_a_network_without_variances_is_refused():
    with pytest.raises(ValueError, match="GaussianBoxLoss: the network tells no variances"):
        YOLOv3Loss(boxes=GaussianBoxLoss())(make_outputs(), make_targets())


def test_the_likeliest_variance_is_the_squared_error():
    raw, grid, _ = make_outputs(images=1)
    targets = {"boxes": torch.tensor([[[10.0, 10, 30, 34]]]), "labels": torch.tensor([[0]])}
    raw = torch.zeros_like(raw)
    slot = assign_boxes(targets["boxes"], targets["labels"] >= 0, grid).slots.item()
    variances = torch.zeros(1, raw.shape[1], 4).requires_grad_()
    optimizer = torch.optim.Adam([variances], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        parts = YOLOv3Loss(boxes=GaussianBoxLoss(smallest_variance=1e-6))(YOLOOutputs(raw, grid, variances), targets)
        (parts["center"] + parts["size"]).backward()
        optimizer.step()
    wanted = torch.tensor([20.0, 22]) / grid.strides[slot] - grid.cells[slot]
    torch.testing.assert_close(variances[0, slot, :2].sigmoid(), (wanted - 0.5) ** 2, atol=1e-3, rtol=0.02)


def test_ignoring_makes_a_difference_to_these_outputs():
    targets = make_targets()
    outputs = place_on_truths(make_outputs(), targets)
    ignoring, counting = (YOLOv3Loss(threshold)(outputs, targets)["objectness"] for threshold in (0.5, 1.0))
    assert ignoring < counting - 1


def test_of_two_boxes_for_one_slot_the_last_has_it():
    _, grid, _ = make_outputs()
    boxes = torch.tensor([[[10.0, 10, 30, 30], [10, 10, 30, 31], [40, 40, 42, 43], [10, 10, 30, 30]]])
    real = torch.tensor([[True, True, True, False]])
    assignment = assign_boxes(boxes, real, grid)
    assert assignment.slots[0, 0] == assignment.slots[0, 1]
    assert assignment.positive.tolist() == [[False, True, True, False]]


def test_a_centre_on_the_far_border_belongs_to_the_last_cell():
    _, grid, _ = make_outputs()
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
        expected = naive.losses(outputs, targets)
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
    raw, grid, _ = make_outputs(images=1)
    raw = torch.zeros_like(raw).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        sum(YOLOv3Loss(boxes=CenterAndSize(size="squared"))(YOLOOutputs(raw, grid), targets).values()).backward()
        optimizer.step()
    slots = assign_boxes(targets["boxes"], targets["labels"] >= 0, grid).slots[0]
    torch.testing.assert_close(grid.decode(raw)[0, slots], targets["boxes"][0], atol=0.5, rtol=0)
    assert raw[0, slots, 5:].argmax(1).tolist() == [0, 2]
    assert sorted(raw[0, :, 4].topk(2).indices.tolist()) == sorted(slots.tolist())


@pytest.mark.parametrize("boxes", [None, OverlapLoss("ciou"), GaussianBoxLoss()], ids=str)
def test_padding_has_finite_gradients(boxes):
    raw, grid, _ = make_outputs()
    raw.requires_grad_()
    variances = torch.zeros(*raw.shape[:2], 4)
    targets = {"boxes": torch.zeros(4, 3, 4), "labels": torch.full((4, 3), -1)}
    sum(YOLOv3Loss(boxes=boxes)(YOLOOutputs(raw, grid, variances), targets).values()).backward()
    assert bool(raw.grad.isfinite().all())
    assert bool((raw.grad[..., :4] == 0).all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ignore_iou": 1.5}, "ignore_iou is 1.5; it must be from 0 to 1"),
        ({"focal_alpha": -0.1}, "focal_alpha is -0.1; it must be from 0 to 1"),
        ({"focal_gamma": -1.0}, "focal_gamma is -1.0; it must be at least 0"),
        ({"negatives_per_box": 0.0}, "negatives_per_box is 0.0; it must be above 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"YOLOv3Loss: {message}"):
        YOLOv3Loss(**arguments)


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (CenterAndSize, {"center": "iou"}, "center is 'iou'; it must be one of 'bce', 'l1', 'squared'"),
        (CenterAndSize, {"size": "bce"}, "size is 'bce'; it must be one of 'l1', 'squared'"),
        (OverlapLoss, {"kind": "bce"}, "kind is 'bce'; it must be one of 'iou', 'giou', 'diou', 'ciou'"),
        (GaussianBoxLoss, {"smallest_variance": 0.0}, "smallest_variance is 0.0; it must be above 0 and below 1"),
        (OverlapLoss, {"weight": 0.0}, "weight is 0.0; it must be above 0"),
    ],
)
def test_wrong_arguments_of_box_losses_are_refused(loss, arguments, message):
    with pytest.raises(ValueError, match=f"{loss.__name__}: {message}"):
        loss(**arguments)


@pytest.mark.parametrize(("classes", "delta"), [(20, 1 / 40), (80, 1 / 80)])
def test_smoothing_takes_one_fortieth_or_with_many_classes_their_share(classes, delta):
    raw = torch.full((1, classes), 0.7)
    pulled = YOLOv3Loss(label_smoothing=True)._classes(raw, torch.tensor([3])) - torch.nn.functional.softplus(raw)
    wanted = torch.full((1, classes), delta).index_fill_(1, torch.tensor([3]), 1 - delta)
    torch.testing.assert_close(pulled, -0.7 * wanted)
