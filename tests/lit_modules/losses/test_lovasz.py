"""Lovász losses against the definition of the extension: an integral over thresholds of the set function."""

import pytest
import torch
from torch import Tensor

from lit_modules.losses import LovaszHinge, LovaszSoftmax

GENERATOR = torch.Generator().manual_seed(0)
SCORES = torch.randn(7, 3, generator=GENERATOR)
SEVERAL = torch.randint(2, (7, 3), generator=GENERATOR)
LABELS = torch.tensor([0, 2, 2, 0, 2, 0, 0])  # none of class 1


def jaccard_loss(wrong: set[int], present: set[int]) -> float:
    """Return 1 - IoU when the samples in `wrong` are on the wrong side (equation 6)."""
    found = present ^ wrong
    union = present | found
    return 1 - len(present & found) / len(union) if union else 0.0


def extend(errors: list[float], present: list[int]) -> float:
    """Return the Lovász extension: the integral of the set function of {errors >= t} over t from 0."""
    inside = {sample for sample, value in enumerate(present) if value}
    total, below = 0.0, 0.0
    for level in sorted({error for error in errors if error > 0}):
        wrong = {sample for sample, error in enumerate(errors) if error >= level}
        total += (level - below) * jaccard_loss(wrong, inside)
        below = level
    return total


def test_the_hinge_is_the_extension_over_hinge_errors_the_mean_over_labels() -> None:
    naive = 0.0
    for label in range(3):
        present = SEVERAL[:, label].tolist()
        scores = SCORES[:, label].tolist()
        naive += extend([max(0, 1 - s * (2 * y - 1)) for s, y in zip(scores, present, strict=True)], present) / 3
    assert LovaszHinge()(SCORES, SEVERAL).item() == pytest.approx(naive, rel=1e-5)


def test_the_softmax_loss_is_the_extension_over_errors_the_mean_over_classes_that_occur() -> None:
    probabilities, naive = SCORES.softmax(1), 0.0
    for label in (0, 2):
        present = [int(value == label) for value in LABELS.tolist()]
        errors = [abs(y - p) for y, p in zip(present, probabilities[:, label].tolist(), strict=True)]
        naive += extend(errors, present) / 2
    assert LovaszSoftmax()(SCORES, LABELS).item() == pytest.approx(naive, rel=1e-5)


@pytest.mark.parametrize("certain, expected", [(100.0, 0.0), (-100.0, 101.0)])
def test_the_hinge_of_certain_scores(certain: float, expected: float) -> None:
    signs = 2 * SEVERAL - 1
    assert LovaszHinge()(certain * signs, SEVERAL).item() == pytest.approx(expected)


def test_the_softmax_loss_of_certain_scores_is_one_minus_iou() -> None:
    decided = torch.tensor([0, 2, 0, 0, 2, 2, 0])
    scores = 100.0 * torch.nn.functional.one_hot(decided, 3)
    # class 0: 3 of 5 samples; class 2: 2 of 4
    assert LovaszSoftmax()(scores, LABELS).item() == pytest.approx(1 - (3 / 5 + 2 / 4) / 2)


def test_labels_stand_for_one_label_each() -> None:
    one_hot = torch.nn.functional.one_hot(LABELS, 3)
    torch.testing.assert_close(LovaszHinge()(SCORES, LABELS), LovaszHinge()(SCORES, one_hot))


@pytest.mark.parametrize("loss", [LovaszHinge(), LovaszSoftmax()])
def test_class_weights_are_refused(loss: torch.nn.Module) -> None:
    mixed: Tensor = torch.full((7, 3), 1 / 3)
    with pytest.raises(ValueError, match="no meaning for mixed images: leave out mixup and cutmix"):
        loss(SCORES, mixed)
