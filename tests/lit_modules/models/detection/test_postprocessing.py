"""Detections against a loop over slots and classes."""

import pytest
import torch
from torchvision.ops import box_iou

from lit_modules.models.detection import Grid, YOLODetections, YOLOOutputs


def make_outputs(images: int = 2, classes: int = 3) -> YOLOOutputs:
    grid = Grid.make([(4, 4), (2, 2), (1, 1)], [8, 16, 32], torch.tensor([(6, 8), (12, 20), (25, 25)]).float())
    raw = torch.randn(images, len(grid.cells), 5 + classes, generator=torch.Generator().manual_seed(0))
    return YOLOOutputs(raw * 2, grid)


def naive_detections(outputs: YOLOOutputs, image: int, threshold: float, nms_iou: float):
    raw, grid, _ = outputs
    boxes = grid.decode(raw[image]).clamp(0, 32)
    scored = []
    for slot in range(raw.shape[1]):
        for label in range(raw.shape[2] - 5):
            score = (raw[image, slot, 4].sigmoid() * raw[image, slot, 5 + label].sigmoid()).item()
            if score >= threshold:
                scored.append((score, label, boxes[slot]))
    kept = []
    for score, label, box in sorted(scored, key=lambda item: -item[0]):
        rivals = [other for _, other_label, other in kept if other_label == label]
        if all(box_iou(box[None], other[None]).item() <= nms_iou for other in rivals):
            kept.append((score, label, box))
    return kept


def test_detections_are_those_of_a_loop():
    outputs = make_outputs()
    found = YOLODetections(score_threshold=0.2, nms_iou=0.4)(outputs)
    for image, detections in enumerate(found):
        expected = naive_detections(outputs, image, 0.2, 0.4)
        assert 3 < len(expected) < 40
        assert detections["labels"].tolist() == [label for _, label, _ in expected]
        assert detections["scores"].tolist() == pytest.approx([score for score, _, _ in expected])
        torch.testing.assert_close(detections["boxes"], torch.stack([box for _, _, box in expected]))


def test_a_score_counts_how_certain_the_box_is():
    outputs = make_outputs()
    variances = torch.randn(*outputs.raw.shape[:2], 4, generator=torch.Generator().manual_seed(1))
    everything = {"score_threshold": 0.0, "nms_iou": 1.0, "candidates": 10_000, "top_k": 10_000}
    plain, weighted = (YOLODetections(**everything)(each) for each in (outputs, outputs._replace(variances=variances)))
    certainty = 1 - variances.sigmoid().mean(-1)
    for image in range(2):
        raw = outputs.raw[image].sigmoid()
        expected = (raw[:, 4] * certainty[image])[:, None] * raw[:, 5:]
        torch.testing.assert_close(weighted[image]["scores"], expected.flatten().sort(descending=True).values)
        assert len(plain[image]["scores"]) == len(weighted[image]["scores"])


def test_boxes_that_are_known_to_be_uncertain_are_false_positives_no_more():
    """Wrong boxes, of class 1, have more objectness than the right ones, of class 0, and a larger variance."""
    raw, grid, _ = make_outputs(classes=2)
    right = torch.arange(raw.shape[1]) % 4 == 0
    raw = torch.full_like(raw, -9.0)
    raw[:, :, 4] = torch.where(right, 2.0, 3.0)
    raw[:, right, 5], raw[:, ~right, 6] = 2.0, 2.0
    variances = torch.where(right[:, None], -4.0, 1.0).expand(2, -1, 4)
    best = YOLODetections(nms_iou=1.0, top_k=int(right.sum()))
    plain, weighted = (best(YOLOOutputs(raw, grid, given))[0]["labels"] for given in (None, variances))
    assert plain.unique().tolist() == [1]
    assert weighted.unique().tolist() == [0]


def test_top_k_keeps_the_best():
    outputs = make_outputs()
    everything, few = YOLODetections(0.2)(outputs), YOLODetections(0.2, top_k=2)(outputs)
    for all_found, best in zip(everything, few, strict=True):
        assert best["scores"].tolist() == all_found["scores"][:2].tolist()


def test_no_more_candidates_than_said_go_into_the_suppression():
    found = YOLODetections(0.0, nms_iou=1.0, candidates=5)(make_outputs())
    assert [len(detections["boxes"]) for detections in found] == [5, 5]


def test_an_image_with_nothing_above_the_threshold_has_no_boxes():
    raw, grid, _ = make_outputs()
    found = YOLODetections()(YOLOOutputs(torch.full_like(raw, -10), grid))
    assert [detections["boxes"].shape for detections in found] == [(0, 4), (0, 4)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score_threshold": 1.1}, "score_threshold is 1.1; it must be from 0 to 1"),
        ({"nms_iou": -1}, "nms_iou is -1; it must be from 0 to 1"),
        ({"candidates": 0}, "candidates is 0; it must be at least 1"),
        ({"top_k": 0}, "top_k is 0; it must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        YOLODetections(**arguments)
