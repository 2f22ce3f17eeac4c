"""Mean average precisions of detections whose score follows from the definition."""

import pytest
import torch

from lit_modules.metrics import COCOAveragePrecision, VOCAveragePrecision
from lit_modules.metrics.detection import unpad_targets

CLASSES = ["cat", "dog", "owl"]


def make_targets(images: int = 4) -> dict[str, torch.Tensor]:
    """Image n has n boxes of 40×40 pixels, far apart, of cats and dogs in turn."""
    boxes, labels = torch.zeros(images, images, 4), torch.full((images, images), -1)
    for image in range(images):
        for place in range(image):
            boxes[image, place] = torch.tensor([100.0 * place, 0, 100 * place + 40, 40])
            labels[image, place] = (image + place) % 2
    return {"boxes": boxes, "labels": labels}


def find_all(targets: dict[str, torch.Tensor], shift: float = 0.0, copies: int = 1) -> list[dict[str, torch.Tensor]]:
    """Detect every box, moved to the right; each copy has the next lower score."""
    found, rank = [], 0
    for truths in unpad_targets(targets):
        count = len(truths["boxes"]) * copies
        scores = 0.9 - 0.01 * torch.arange(rank, rank + count)
        rank += count
        moved = truths["boxes"].repeat_interleave(copies, 0) + torch.tensor([shift, 0, shift, 0])
        found.append({"boxes": moved, "scores": scores, "labels": truths["labels"].repeat_interleave(copies)})
    return found


def score(metric, detections, targets) -> dict[str, float]:
    metric.update(detections, targets)
    return {name: value.item() for name, value in metric.compute().items()}


def voc(interpolation="area", **arguments) -> VOCAveragePrecision:
    return VOCAveragePrecision(3, interpolation, class_names=CLASSES, **arguments)


def coco() -> COCOAveragePrecision:
    return COCOAveragePrecision(class_names=CLASSES)


METRICS = pytest.mark.parametrize("make", [voc, lambda: voc("11_point"), coco], ids=["area", "11_point", "coco"])


@METRICS
def test_perfect_detections_score_one(make):
    targets = make_targets()
    found = score(make(), find_all(targets), targets)
    assert {found[name] for name in ("map", "ap_cat", "ap_dog")} == {1.0}
    assert "ap_owl" not in found


@METRICS
def test_no_detections_score_zero(make):
    targets = make_targets()
    none = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    assert score(make(), [none] * 4, targets)["map"] == 0


def test_a_duplicate_behind_each_detection_costs_what_the_definition_says():
    """The k-th of n hits is at place 2k - 1, so the precision there is k / (2k - 1)."""
    targets = make_targets()
    targets["labels"] = targets["labels"].clamp(max=0)
    expected = sum(k / (2 * k - 1) for k in range(1, 7)) / 6
    found = find_all(targets, copies=2)
    assert score(voc(), found, targets)["map"] == pytest.approx(expected, rel=1e-6)
    at_recall = [max(k / (2 * k - 1) for k in range(max(r * 6 / 100, 1).__ceil__(), 7)) for r in range(101)]
    assert score(coco(), found, targets)["map"] == pytest.approx(sum(at_recall) / 101, abs=1e-4)


@pytest.mark.parametrize(("shift", "overlap"), [(8.0, 32 / 48), (4.0, 36 / 44), (20.0, 20 / 60)])
def test_shifted_detections_count_up_to_their_overlap(shift, overlap):
    targets = make_targets()
    found = find_all(targets, shift=shift)
    assert score(voc(), found, targets)["map"] == (1.0 if overlap >= 0.5 else 0.0)
    thresholds = [0.5 + 0.05 * step for step in range(10)]
    expected = sum(overlap >= threshold for threshold in thresholds) / 10
    assert score(coco(), found, targets)["map"] == pytest.approx(expected, abs=1e-6)


def test_the_example_in_the_documentation_of_torchmetrics():
    targets = {"boxes": torch.tensor([[[214.0, 41.0, 562.0, 285.0]]]), "labels": torch.tensor([[0]])}
    found = [
        {
            "boxes": torch.tensor([[258.0, 41.0, 606.0, 285.0]]),
            "scores": torch.tensor([0.536]),
            "labels": torch.tensor([0]),
        }
    ]
    scores = score(coco(), found, targets)
    assert scores["map"] == pytest.approx(0.6)
    assert scores["map_50"] == scores["map_75"] == 1
    assert scores["map_large"] == pytest.approx(0.6)
    assert "map_small" not in scores


def test_detections_of_another_class_are_wrong():
    targets = make_targets()
    found = find_all(targets)
    for each in found:
        each["labels"] = 1 - each["labels"]
    assert score(voc(), found, targets)["map"] == 0


def test_difficult_boxes_neither_count_nor_cost():
    targets = make_targets()
    targets["difficult"] = torch.zeros(4, 4, dtype=torch.bool)
    targets["difficult"][3] = True
    found = find_all(targets)
    assert score(voc(recall=1.0), found, targets) == {"map": 1, "ap_cat": 1, "ap_dog": 1, "false_positives": 0}
    found[3] = {name: part[:0] for name, part in found[3].items()}
    assert score(voc(), found, targets)["map"] == 1


@METRICS
def test_crowds_neither_count_nor_cost(make):
    targets = make_targets()
    targets["crowd"] = torch.zeros(4, 4, dtype=torch.bool)
    targets["crowd"][3, :2] = True
    assert score(make(), find_all(targets), targets)["map"] == 1


def test_false_positives_are_counted_for_an_image():
    targets = make_targets()
    found = find_all(targets, copies=2)
    assert score(voc(recall=0.5), found, targets)["false_positives"] == 2 / 4
    assert score(voc(recall=1.0), found, targets)["false_positives"] == 5 / 4


@METRICS
def test_batches_add_up(make):
    targets = make_targets()
    found = find_all(targets, shift=3, copies=2)
    whole, parts = make(), make()
    expected = score(whole, found, targets)
    for image in range(4):
        parts.update(found[image : image + 1], {name: part[image : image + 1] for name, part in targets.items()})
    assert {name: value.item() for name, value in parts.compute().items()} == expected
    parts.reset()
    assert score(parts, found, targets) == expected


def test_the_voc_metric_agrees_with_coco_on_the_area():
    """COCO's 101 points are nearly the area; matches are the same while boxes of a class do not overlap."""
    targets = make_targets(12)
    found = find_all(targets, shift=5)
    generator = torch.Generator().manual_seed(0)
    for each in found:
        each["scores"] = torch.rand(len(each["scores"]), generator=generator)
        each["labels"] = each["labels"] ^ (torch.rand(len(each["labels"]), generator=generator) < 0.3).long()
    assert score(voc(), found, targets)["map"] == pytest.approx(score(coco(), found, targets)["map_50"], abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0; it must be at least 1"),
        ({"interpolation": "all"}, "interpolation is 'all'; it must be 'area' or '11_point'"),
        ({"iou_threshold": 0}, "iou_threshold is 0; it must be above 0 and at most 1"),
        ({"class_names": ["cat"]}, "there are 1 class_names; there must be 3"),
        ({"recall": 0}, "recall is 0; it must be above 0 and at most 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VOCAveragePrecision(**{"num_classes": 3} | arguments)
