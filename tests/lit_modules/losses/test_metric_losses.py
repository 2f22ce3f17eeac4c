"""Batch-hard triplet loss and center loss against loops, and heads with a margin behind a batch norm neck."""

import math

import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor, nn

from lit_modules.losses import AMSoftmax, ArcFace, BatchHardTripletLoss, CenterLoss, MarginHead, NormFace

FEATURES = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
IDENTITIES = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4])  # 3 and 4 have no positive


def naive_triplet(features: Tensor, identities: Tensor, margin: float | None) -> float:
    losses = []
    for anchor in range(len(features)):
        positives, negatives = [], []
        for other in range(len(features)):
            distance = math.dist(features[anchor].tolist(), features[other].tolist())
            if identities[other] != identities[anchor]:
                negatives.append(distance)
            elif other != anchor:
                positives.append(distance)
        if positives and negatives:
            difference = max(positives) - min(negatives)
            losses.append(math.log1p(math.exp(difference)) if margin is None else max(difference + margin, 0))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("margin", [0.0, 0.3, 2.0, None])
def test_the_triplet_loss_is_that_of_a_loop(margin: float | None) -> None:
    loss = BatchHardTripletLoss(margin)(FEATURES, IDENTITIES)
    assert loss.item() == pytest.approx(naive_triplet(FEATURES, IDENTITIES, margin), rel=1e-5)


def test_the_triplet_loss_and_its_gradient_are_those_of_pytorch_metric_learning() -> None:
    distance, gradients, losses = LpDistance(normalize_embeddings=False), [], []
    theirs = TripletMarginLoss(0.3, distance=distance, reducer=MeanReducer())
    mined = BatchHardMiner(distance=distance)(FEATURES, IDENTITIES)
    for measure in (lambda x: BatchHardTripletLoss(0.3)(x, IDENTITIES), lambda x: theirs(x, IDENTITIES, mined)):
        features = FEATURES.clone().requires_grad_()
        losses.append(measure(features))
        gradients.append(torch.autograd.grad(losses[-1], features)[0])
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("identities", [torch.arange(12), torch.zeros(12)], ids=["no positive", "no negative"])
@pytest.mark.parametrize("margin", [0.3, None])
def test_without_a_complete_anchor_the_loss_and_its_gradient_are_zero(identities: Tensor, margin: float | None) -> None:
    features = FEATURES.clone().requires_grad_()
    loss = BatchHardTripletLoss(margin)(features, identities)
    loss.backward()
    assert features.grad is not None
    assert loss.item() == 0 and not features.grad.any()


def test_features_that_are_all_alike_have_a_finite_gradient() -> None:
    features = torch.ones(12, 5, requires_grad=True)
    loss = BatchHardTripletLoss(0.3)(features, IDENTITIES)
    loss.backward()
    assert features.grad is not None
    assert loss.item() == pytest.approx(0.3) and features.grad.isfinite().all()


def test_under_autocast_the_losses_are_those_of_full_precision() -> None:
    centers, triplet = CenterLoss(5, 5), BatchHardTripletLoss()
    expected = [triplet(FEATURES, IDENTITIES), centers(FEATURES, IDENTITIES)]
    with torch.autocast("cpu", torch.bfloat16):
        got = [triplet(FEATURES, IDENTITIES), centers(FEATURES, IDENTITIES)]
    assert got == expected


def test_the_center_loss_is_that_of_a_loop() -> None:
    loss = CenterLoss(num_classes=5, num_features=5)
    squares = []
    for feature, label in zip(FEATURES, IDENTITIES, strict=True):
        squares.append(math.dist(feature.tolist(), loss.centers[label].tolist()) ** 2)
    assert loss(FEATURES, IDENTITIES).item() == pytest.approx(sum(squares) / 12, rel=1e-5)


def test_a_step_moves_each_center_towards_the_features_of_its_class_alone() -> None:
    loss = CenterLoss(num_classes=6, num_features=5)
    before = loss.centers.detach().clone()
    weight = 5e-4
    (weight * loss(FEATURES, IDENTITIES)).backward()
    assert loss.centers.grad is not None
    loss.centers.grad /= weight
    torch.optim.SGD([loss.centers], lr=0.5).step()
    for label in range(6):
        of_class = FEATURES[label == IDENTITIES]
        expected = before[label] - 0.5 * 2 * (before[label] - of_class).sum(0) / 12
        torch.testing.assert_close(loss.centers[label].detach(), expected)
    assert torch.equal(loss.centers[5].detach(), before[5])


@pytest.mark.parametrize("head", [AMSoftmax(5, 5), ArcFace(5, 5), NormFace(5, 5)], ids=lambda head: type(head).__name__)
def test_a_margin_head_works_behind_a_batch_norm_neck(head: MarginHead) -> None:
    neck = nn.BatchNorm1d(5)
    neck.bias.requires_grad_(False)
    features = FEATURES.clone().requires_grad_()
    after = neck(features)
    scores = head(after, IDENTITIES)
    nn.functional.cross_entropy(scores, IDENTITIES).backward()
    assert scores.shape == (12, 5)
    assert features.grad is not None and features.grad.abs().sum() > 0
    cosines = nn.functional.normalize(after) @ nn.functional.normalize(head.weight).T
    wrong = torch.ones(12, 5).scatter_(1, IDENTITIES[:, None], 0).bool()
    plain = head(after)
    torch.testing.assert_close(scores[wrong], plain[wrong])
    assert (cosines.argmax(1) == plain.argmax(1)).all()


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: BatchHardTripletLoss(-0.1), "margin is -0.1"),
        (lambda: CenterLoss(0, 5), "num_classes=0"),
        (lambda: CenterLoss(5, 0), "num_features=0"),
    ],
)
def test_what_is_out_of_range_is_refused(make: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()  # type: ignore[operator]
