"""Boxes of several views made one list, against naive loops."""

import pytest
import torch

from lit_modules.inference import FusedBoxes, SuppressedBoxes
from lit_modules.inference.merging import BoxMerging


def found(*entries):
    """What was found on an image: box, score and label of each."""
    boxes, scores, labels = zip(*entries, strict=True) if entries else ((), (), ())
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def random_lists(seed, lists=3, count=12):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(lists):
        corners = torch.rand(count, 2, generator=generator) * 20
        sides = 5 + torch.rand(count, 2, generator=generator) * 15
        labels = torch.randint(2, (count,), generator=generator)
        made.append(
            {
                "boxes": torch.cat([corners, corners + sides], 1),
                "scores": torch.rand(count, generator=generator),
                "labels": labels,
            }
        )
    return made


def overlap(first, second):
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def clusters_by_loops(lists, iou):
    """Group boxes around the best that no better one suppressed; a box joins the best that it overlaps."""
    entries = [
        (score, box, label)
        for each in lists
        for score, box, label in zip(
            each["scores"].tolist(), each["boxes"].tolist(), each["labels"].tolist(), strict=True
        )
    ]
    clusters = []
    for entry in sorted(entries, key=lambda entry: -entry[0]):
        for cluster in clusters:
            if cluster[0][2] == entry[2] and overlap(cluster[0][1], entry[1]) > iou:
                cluster.append(entry)
                break
        else:
            clusters.append([entry])
    return clusters


@pytest.mark.parametrize("seed", range(3))
def test_fused_boxes_are_means_by_score_and_scores_count_the_lists(seed):
    lists = random_lists(seed)
    expected = []
    for cluster in clusters_by_loops(lists, 0.4):
        total = sum(score for score, _, _ in cluster)
        box = [sum(score * box[edge] for score, box, _ in cluster) / total for edge in range(4)]
        expected.append((total / len(cluster) * min(len(cluster), 3) / 3, box, cluster[0][2]))
    expected.sort(key=lambda entry: -entry[0])
    merged = FusedBoxes(iou=0.4)(lists)
    assert len(expected) < 36
    assert merged["scores"].tolist() == pytest.approx([score for score, _, _ in expected])
    assert torch.allclose(merged["boxes"], torch.tensor([box for _, box, _ in expected]), atol=1e-4)
    assert merged["labels"].tolist() == [label for _, _, label in expected]


@pytest.mark.parametrize("seed", range(3))
def test_suppressed_boxes_are_the_best_of_each_cluster(seed):
    lists = random_lists(seed)
    expected = [cluster[0] for cluster in clusters_by_loops(lists, 0.4)]
    merged = SuppressedBoxes(iou=0.4, top_k=5)(lists)
    assert merged["scores"].tolist() == pytest.approx([score for score, _, _ in expected[:5]])
    assert torch.allclose(merged["boxes"], torch.tensor([box for _, box, _ in expected[:5]]))


def test_what_one_view_of_two_sees_counts_half():
    box = (0, 0, 10, 10)
    assert FusedBoxes()([found((box, 0.8, 0)), found()])["scores"].tolist() == pytest.approx([0.4])
    assert FusedBoxes()([found((box, 0.8, 0)), found((box, 0.6, 0))])["scores"].tolist() == pytest.approx([0.7])
    assert FusedBoxes()([found((box, 0.8, 0)), found((box, 0.6, 1))])["scores"].tolist() == pytest.approx([0.4, 0.3])


@pytest.mark.parametrize("merging", [FusedBoxes(), SuppressedBoxes()], ids=["fused", "suppressed"])
def test_nothing_found_stays_nothing(merging: BoxMerging):
    merged = merging([found(), found()])
    assert {name: tuple(part.shape) for name, part in merged.items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "labels": (0,),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"iou": 1.5}, r"FusedBoxes: iou is 1\.5; it must be from 0 to 1"), ({"top_k": 0}, "top_k is 0; it must be")],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FusedBoxes(**arguments)
