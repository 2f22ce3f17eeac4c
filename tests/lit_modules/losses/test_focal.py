"""Focal loss against torchvision, torch and a naive loop."""

import pytest
import torch
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from lit_modules.losses import FocalLoss

SCORES = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
WEIGHTS = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)).softmax(1)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_of_two_classes_it_is_torchvision_s_sigmoid_loss(gamma: float) -> None:
    score, label = SCORES[:, 0], torch.tensor([0, 1, 1, 0, 1, 0])
    two_scores = torch.stack([torch.zeros_like(score), score], 1)
    expected = sigmoid_focal_loss(score, label.float(), alpha=-1, gamma=gamma, reduction="none")
    torch.testing.assert_close(FocalLoss(gamma, reduction="none")(two_scores, label), expected)


@pytest.mark.parametrize("targets", [LABELS, WEIGHTS], ids=["labels", "class weights"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_focus_it_is_cross_entropy(targets: torch.Tensor, smoothing: float) -> None:
    expected = nn.CrossEntropyLoss(label_smoothing=smoothing)(SCORES, targets)
    torch.testing.assert_close(FocalLoss(0.0, smoothing)(SCORES, targets), expected)


def test_class_weights_are_counted_class_by_class() -> None:
    probabilities = SCORES.softmax(1).tolist()
    naive = []
    for row, weights in zip(probabilities, WEIGHTS.tolist(), strict=True):
        smoothed = [0.8 * weight + 0.2 / 4 for weight in weights]
        terms = [-weight * (1 - p) ** 2 * torch.tensor(p).log().item() for p, weight in zip(row, smoothed, strict=True)]
        naive.append(sum(terms))
    loss = FocalLoss(2.0, label_smoothing=0.2)(SCORES, WEIGHTS)
    assert loss.item() == pytest.approx(sum(naive) / len(naive), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_gradient_is_finite_where_the_network_is_certain(gamma: float) -> None:
    scores = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    FocalLoss(gamma)(scores, torch.tensor([0, 0])).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad[1, 0] == pytest.approx(-0.5)


@pytest.mark.parametrize("arguments, text", [({"gamma": -1.0}, "gamma is -1.0"), ({"label_smoothing": 2.0}, "is 2.0")])
def test_what_is_out_of_range_is_refused(arguments: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        FocalLoss(**arguments)
