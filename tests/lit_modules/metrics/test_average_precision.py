"""VOC's average precision against a published worked example, closed forms and a naive loop."""

import math

import pytest
import torch
from torchvision.ops import box_iou

from lit_modules.metrics.average_precision import average_precision, false_positives_at_recall, judge_detections

PADILLA_SCORES = [95, 95, 91, 88, 84, 80, 78, 74, 71, 70, 67, 62, 54, 48, 45, 45, 44, 44, 43, 38, 35, 23, 18, 14]
PADILLA_RIGHT = [1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
"""24 detections, 15 objects: Padilla et al. 2020, A survey on performance metrics for object-detection algorithms."""


@pytest.mark.parametrize(("interpolation", "published"), [("11_point", 0.2684), ("area", 0.2456)])
def test_a_published_example(interpolation, published):
    found = average_precision(torch.tensor(PADILLA_SCORES) / 100, torch.tensor(PADILLA_RIGHT), 15, interpolation)
    assert found == pytest.approx(published, abs=1e-4)


def test_false_positives_of_the_published_example():
    scores, right = torch.tensor(PADILLA_SCORES) / 100, torch.tensor(PADILLA_RIGHT)
    assert false_positives_at_recall(scores, right, 15, 1 / 15) == 1  # the second has the same score
    assert false_positives_at_recall(scores, right, 15, 0.2) == 7
    assert false_positives_at_recall(scores, right, 15, 0.4) == 8
    assert false_positives_at_recall(scores, right, 15, 0.45) == 16
    assert false_positives_at_recall(scores, right, 15, 0.5) == math.inf
    assert math.isnan(false_positives_at_recall(scores, right, 0, 0.5))


def naive_average_precision(scores, right, truths, interpolation):
    """Of VOC's definition: at each recall the best precision at that recall or more."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    points, hits = [], 0
    for number, index in enumerate(order, 1):
        hits += right[index]
        points.append((hits, hits / number))
    best = lambda least: max((precision for hits, precision in points if hits >= least), default=0.0)  # noqa: E731
    if interpolation == "area":
        return sum(best(number) for number in range(1, truths + 1)) / truths
    return sum(best(math.ceil(truths * tenth / 10)) for tenth in range(11)) / 11


@pytest.mark.parametrize("interpolation", ["area", "11_point"])
def test_average_precision_is_that_of_a_loop(interpolation):
    generator = torch.Generator().manual_seed(0)
    for count in (1, 3, 10, 50, 200):
        scores = torch.rand(count, generator=generator)
        right = torch.rand(count, generator=generator) < 0.6
        for missed in (0, 1, 7):
            truths = max(int(right.sum()) + missed, 1)
            expected = naive_average_precision(scores.tolist(), right.int().tolist(), truths, interpolation)
            assert average_precision(scores, right, truths, interpolation) == pytest.approx(expected)


def test_recalls_of_tenths_are_reached_exactly():
    assert average_precision(torch.arange(3.0), torch.ones(3), 10, "11_point") == pytest.approx(4 / 11)


def test_without_true_boxes_there_is_no_precision_and_without_detections_it_is_zero():
    none = torch.zeros(0)
    assert math.isnan(average_precision(torch.ones(1), torch.zeros(1), 0))
    assert average_precision(none, none, 3) == 0
    assert average_precision(none, none, 3, "11_point") == 0


def naive_outcomes(detections, truths, threshold):
    taken, outcomes = set(), {}
    for index in sorted(range(len(detections["scores"])), key=lambda index: -float(detections["scores"][index])):
        best, judge = -1.0, -1
        for number in range(len(truths["boxes"])):
            if truths["labels"][number] == detections["labels"][index]:
                overlap = box_iou(detections["boxes"][index][None], truths["boxes"][number][None]).item()
                if overlap > best:
                    best, judge = overlap, number
        if best < threshold:
            outcomes[index] = 0
        elif truths["difficult"][judge] or truths["crowd"][judge]:
            outcomes[index] = -1
        else:
            outcomes[index] = int(judge not in taken)
            taken.add(judge)
    return [outcomes[index] for index in range(len(outcomes))]


def test_outcomes_are_those_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for truths_count, count in [(0, 5), (1, 0), (1, 6), (4, 12), (9, 40), (9, 40), (9, 40)]:
        corners = torch.rand(truths_count, 2, generator=generator) * 40
        truths = {
            "boxes": torch.cat([corners, corners + 20], 1),
            "labels": torch.randint(2, (truths_count,), generator=generator),
            "difficult": torch.rand(truths_count, generator=generator) < 0.2,
            "crowd": torch.rand(truths_count, generator=generator) < 0.2,
        }
        base = truths["boxes"][torch.randint(truths_count, (count,), generator=generator)] if truths_count else 10
        noise = torch.randn(count, 4, generator=generator) * 3
        boxes = base + noise if truths_count else torch.tensor([[0.0, 0, 9, 9]]).repeat(count, 1)
        detections = {
            "boxes": boxes,
            "scores": torch.rand(count, generator=generator),
            "labels": torch.randint(2, (count,), generator=generator),
        }
        outcomes = judge_detections(detections, truths).tolist()
        assert outcomes == naive_outcomes(detections, truths, 0.5)
        seen |= set(outcomes)
    assert seen == {-1, 0, 1}
