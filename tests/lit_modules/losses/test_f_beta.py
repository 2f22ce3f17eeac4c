"""Soft F-beta against a naive loop, and against torchmetrics where probabilities are decisions."""

import pytest
import torch
from torchmetrics.functional.classification import multilabel_fbeta_score

from lit_modules.losses import FBetaLoss

GENERATOR = torch.Generator().manual_seed(0)
SCORES = torch.randn(7, 3, generator=GENERATOR) * 2
SEVERAL = torch.randint(2, (7, 3), generator=GENERATOR)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_it_is_one_minus_the_mean_f_beta_of_soft_counts(beta: float) -> None:
    naive = 0.0
    for label in range(3):
        true_positives = false_positives = false_negatives = 0.0
        for p, present in zip(SCORES[:, label].sigmoid().tolist(), SEVERAL[:, label].tolist(), strict=True):
            true_positives += p * present
            false_positives += p * (1 - present)
            false_negatives += (1 - p) * present
        precision = true_positives / (true_positives + false_positives)
        recall = true_positives / (true_positives + false_negatives)
        naive += (1 + beta**2) * precision * recall / (beta**2 * precision + recall) / 3
    assert FBetaLoss(beta)(SCORES, SEVERAL).item() == pytest.approx(1 - naive, rel=1e-5)


def test_of_certain_scores_it_is_one_minus_torchmetrics_score() -> None:
    expected = 1 - multilabel_fbeta_score((SCORES > 0).float(), SEVERAL, beta=2.0, num_labels=3)
    torch.testing.assert_close(FBetaLoss(2.0)(SCORES.sign() * 100, SEVERAL), expected)


def test_labels_stand_for_one_label_each() -> None:
    labels = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    torch.testing.assert_close(FBetaLoss()(SCORES, labels), FBetaLoss()(SCORES, torch.nn.functional.one_hot(labels, 3)))


def test_a_label_that_no_image_has_counts_one_and_gets_no_gradient() -> None:
    scores = SCORES.clone().requires_grad_()
    absent = SEVERAL.clone()
    absent[:, 1] = 0
    loss = FBetaLoss()(scores, absent)
    loss.backward()
    others = FBetaLoss()(SCORES[:, [0, 2]], SEVERAL[:, [0, 2]])
    torch.testing.assert_close(loss.detach(), (2 * others + 1) / 3)
    assert scores.grad is not None
    assert torch.equal(scores.grad[:, 1], torch.zeros(7))


def test_a_beta_that_is_not_above_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"beta is 0\.0; it must be above 0"):
        FBetaLoss(0.0)
