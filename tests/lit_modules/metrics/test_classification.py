"""The metrics of images with several labels against scikit-learn."""

import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

from lit_modules.metrics import MultiLabelMetrics, SingleLabelMetrics

GENERATOR = torch.Generator().manual_seed(0)
SCORES = torch.randn(20, 3, generator=GENERATOR) * 3
SEVERAL = torch.randint(2, (20, 3), generator=GENERATOR).float()


def test_several_labels_are_scored_as_by_scikit_learn() -> None:
    metrics = MultiLabelMetrics(3)
    for scores, targets in zip(SCORES.split(7), SEVERAL.split(7), strict=True):
        metrics.update(scores, targets)
    found = {name: value.item() for name, value in metrics.compute().items()}
    expected = {
        "map": average_precision_score(SEVERAL.numpy(), SCORES.numpy(), average="macro"),
        "f1": f1_score(SEVERAL.numpy(), (SCORES > 0).numpy(), average="macro"),
    }
    assert found == pytest.approx(expected, rel=1e-5)


def test_batches_whose_scores_look_like_probabilities_are_read_as_scores() -> None:
    metrics = MultiLabelMetrics(2)
    metrics.update(torch.tensor([[0.2, -0.2], [0.1, 0.3]]).abs(), torch.ones(2, 2))  # all above 0: found
    assert metrics.compute()["f1"] == 1


def test_class_weights_count_for_the_class_with_the_most() -> None:
    metrics = SingleLabelMetrics()
    metrics.update(SCORES, SCORES.softmax(1))
    assert metrics.compute()["accuracy"] == 1
