"""Hard example mining against a naive loop."""

import pytest
import torch
from torch import nn

from lit_modules.losses import OHEM, BinaryCrossEntropy, FocalLoss, SquaredError

SCORES = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.tensor([0, 3, 1, 1, 2, 0, 3])
WEIGHTS = torch.rand(7, 4, generator=torch.Generator().manual_seed(1)).softmax(1)


@pytest.mark.parametrize("fraction, count", [(0.01, 1), (0.25, 2), (0.5, 4), (1.0, 7)])
def test_it_is_the_mean_of_the_largest_losses(fraction: float, count: int) -> None:
    each = [nn.functional.cross_entropy(SCORES[i : i + 1], LABELS[i : i + 1]).item() for i in range(7)]
    naive = sum(sorted(each)[-count:]) / count
    loss = OHEM(nn.CrossEntropyLoss(reduction="none"), fraction)(SCORES, LABELS)
    assert loss.item() == pytest.approx(naive, rel=1e-6)


@pytest.mark.parametrize("inner", [FocalLoss, SquaredError, BinaryCrossEntropy, nn.CrossEntropyLoss])
@pytest.mark.parametrize("targets", [LABELS, WEIGHTS], ids=["labels", "class weights"])
def test_around_any_loss_all_of_the_batch_is_the_plain_loss(inner: type, targets: torch.Tensor) -> None:
    mined = OHEM(inner(reduction="none", label_smoothing=0.1), fraction=1.0)
    torch.testing.assert_close(mined(SCORES, targets), inner(label_smoothing=0.1)(SCORES, targets))


def test_losses_of_several_labels_count_by_their_mean() -> None:
    several = (WEIGHTS > 0.25).float()
    mined = OHEM(nn.BCEWithLogitsLoss(reduction="none"), fraction=0.5)(SCORES, several)
    torch.testing.assert_close(mined, OHEM(BinaryCrossEntropy(reduction="none"), fraction=0.5)(SCORES, several))


def test_easy_samples_get_no_gradient() -> None:
    scores = SCORES.clone().requires_grad_()
    OHEM(nn.CrossEntropyLoss(reduction="none"), 0.25)(scores, LABELS).backward()
    assert scores.grad is not None
    hardest = nn.functional.cross_entropy(SCORES, LABELS, reduction="none").topk(2).indices
    assert set(scores.grad.abs().sum(1).nonzero().flatten().tolist()) == set(hardest.tolist())


def test_in_evaluation_all_samples_count() -> None:
    mined = OHEM(nn.CrossEntropyLoss(reduction="none"), 0.25).eval()
    torch.testing.assert_close(mined(SCORES, LABELS), nn.functional.cross_entropy(SCORES, LABELS))


@pytest.mark.parametrize("fraction", [0.0, 1.1])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"fraction is {fraction}; it must be above 0 and at most 1"):
        OHEM(nn.CrossEntropyLoss(reduction="none"), fraction)


def test_a_loss_that_does_not_tell_samples_apart_is_refused() -> None:
    with pytest.raises(ValueError, match="CrossEntropyLoss has reduction 'mean'"):
        OHEM(nn.CrossEntropyLoss())
