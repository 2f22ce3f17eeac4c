"""Heads with a margin against pytorch-metric-learning, and against their formulas."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lit_modules.losses import (
    AMSoftmax,
    ArcFace,
    LargeMarginSoftmax,
    MarginHead,
    NormFace,
    replace_last_layer,
    smallest_scale,
)

FEATURES = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) * 2
LABELS = torch.arange(40) % 4
HEADS: list[Callable[..., MarginHead]] = [NormFace, AMSoftmax, ArcFace, LargeMarginSoftmax]


def make(kind: Callable[..., MarginHead], **arguments: Any) -> MarginHead:
    torch.manual_seed(0)
    return kind(5, 4, **arguments)


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # of the reference, with NumPy 2
@pytest.mark.parametrize(
    ("kind", "arguments", "reference", "its_arguments"),
    [
        (NormFace, {"scale": 20.0}, "NormalizedSoftmaxLoss", {"temperature": 0.05}),
        (AMSoftmax, {"margin": 0.3, "scale": 16.0}, "CosFaceLoss", {"margin": 0.3, "scale": 16.0}),
        (ArcFace, {"margin": 0.5, "scale": 16.0}, "ArcFaceLoss", {"margin": math.degrees(0.5), "scale": 16.0}),
        (ArcFace, {"margin": 1.5, "scale": 16.0}, "ArcFaceLoss", {"margin": math.degrees(1.5), "scale": 16.0}),
        (LargeMarginSoftmax, {"margin": 1, "easing": 0.0}, "LargeMarginSoftmaxLoss", {"margin": 1}),
        (LargeMarginSoftmax, {"margin": 2, "easing": 0.0}, "LargeMarginSoftmaxLoss", {"margin": 2}),
        (LargeMarginSoftmax, {"margin": 3, "easing": 0.0}, "LargeMarginSoftmaxLoss", {"margin": 3}),
        (LargeMarginSoftmax, {"margin": 4, "easing": 0.0}, "LargeMarginSoftmaxLoss", {"margin": 4}),
    ],
)
def test_loss_and_gradients_are_those_of_pytorch_metric_learning(
    kind: Callable[..., MarginHead], arguments: dict[str, Any], reference: str, its_arguments: dict[str, Any]
) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    head, theirs = make(kind, **arguments), getattr(losses, reference)(num_classes=4, embedding_size=5, **its_arguments)
    with torch.no_grad():
        theirs.W.copy_(head.weight.T)
    ours_in, theirs_in = FEATURES.clone().requires_grad_(), FEATURES.clone().requires_grad_()
    loss = nn.functional.cross_entropy(head(ours_in, LABELS), LABELS)
    expected = theirs(theirs_in, LABELS)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(head.weight.grad, theirs.W.grad.T, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(head(FEATURES), theirs.get_logits(FEATURES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", HEADS)
def test_only_the_scores_of_the_labels_are_lowered(kind: Callable[..., MarginHead]) -> None:
    head = make(kind)
    change = head(FEATURES, LABELS) - head(FEATURES)
    of_labels = change.gather(1, LABELS[:, None])
    assert (of_labels == 0).all() if kind is NormFace else (of_labels < 0).all()
    torch.testing.assert_close(change.scatter(1, LABELS[:, None], 0.0), torch.zeros(40, 4))


@pytest.mark.parametrize("kind", [AMSoftmax, ArcFace, LargeMarginSoftmax])
@pytest.mark.parametrize("degrees", [0.0, 20.0, 89.0, 150.0, 180.0])
def test_the_margin_is_that_of_the_formula_at_every_angle(kind: Callable[..., MarginHead], degrees: float) -> None:
    theta = math.radians(degrees)
    k = min(math.floor(2 * theta / math.pi), 1)
    formula = {
        AMSoftmax: math.cos(theta) - 0.35,
        ArcFace: math.cos(theta + 0.5) if theta <= math.pi - 0.5 else math.cos(theta) - 0.5 * math.sin(0.5),
        LargeMarginSoftmax: (5 * math.cos(theta) + (-1) ** k * math.cos(2 * theta) - 2 * k) / 6,
    }[kind]
    head = kind(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    feature = torch.tensor([[math.cos(theta), math.sin(theta)]], requires_grad=True)
    score = head(feature, torch.tensor([0]))[0, 0]
    assert score.item() == pytest.approx(getattr(head, "scale", 1.0) * formula, rel=1e-3, abs=1e-3)
    score.backward()
    assert feature.grad is not None
    assert feature.grad.isfinite().all()


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_at_the_end_of_a_network_learns_its_targets_from_outside(kind: Callable[..., MarginHead]) -> None:
    head = make(kind)
    network = nn.Sequential(nn.Identity(), head)
    with head.aim(LABELS):
        inside = network(FEATURES)
    assert torch.equal(inside, head(FEATURES, LABELS))
    assert torch.equal(network(FEATURES), head(FEATURES))


def test_targets_are_forgotten_after_an_error() -> None:
    head = make(ArcFace)
    with pytest.raises(KeyError), head.aim(LABELS):
        raise KeyError
    assert torch.equal(head(FEATURES[:3]), head(FEATURES)[:3])


def test_half_precision_computes_the_angles_in_float32() -> None:
    head = make(ArcFace)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = head(FEATURES, LABELS)
    assert torch.equal(scores, head(FEATURES, LABELS))


# --- the scale ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("probability", [0.9, 0.9999])
def test_at_the_smallest_scale_classes_as_far_apart_as_can_be_reach_the_probability(
    classes: int, probability: float
) -> None:
    corners = torch.eye(classes, dtype=torch.float64) - 1 / classes  # of a regular simplex
    cosines = nn.functional.normalize(corners) @ nn.functional.normalize(corners).T
    reached = (smallest_scale(classes, probability) * cosines).softmax(1).diagonal()
    torch.testing.assert_close(reached, torch.full((classes,), probability, dtype=torch.float64))


def test_the_scale_grows_with_the_number_of_classes_unless_it_is_given() -> None:
    scales = [NormFace(5, classes).scale for classes in (2, 10, 100, 1000)]
    assert scales == sorted(scales)
    assert scales[1] == pytest.approx(0.9 * math.log(9 * 0.9999 / 0.0001))
    assert ArcFace(5, 10, scale=64.0).scale == 64.0


# --- in place of the last layer -------------------------------------------------------------------------------------


def test_a_head_takes_the_place_of_the_last_linear_layer() -> None:
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.ModuleDict({"fc": nn.Linear(6, 4)})["fc"])
    replace_last_layer(network, AMSoftmax)
    assert isinstance(network[0], nn.Linear)
    assert isinstance(network[2], AMSoftmax)
    assert network[2].weight.shape == (4, 6)
    assert network(FEATURES).shape == (40, 4)


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="Sequential has no linear layer whose place a head"):
        replace_last_layer(nn.Sequential(nn.Conv2d(1, 1, 1)), ArcFace)


@pytest.mark.parametrize("kind", [AMSoftmax, ArcFace, LargeMarginSoftmax])
def test_class_weights_are_refused_where_there_is_a_margin(kind: Callable[..., MarginHead]) -> None:
    weights: Tensor = torch.full((40, 4), 0.25)
    with pytest.raises(ValueError, match=rf"{kind.__name__}: .* a margin needs one label a sample"):
        make(kind)(FEATURES, weights)
    assert torch.equal(make(NormFace)(FEATURES, weights), make(NormFace)(FEATURES))


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        (NormFace, {"scale": 0.0}, r"scale is 0\.0; it must be above 0"),
        (AMSoftmax, {"margin": -0.1}, r"margin is -0\.1; it must be at least 0"),
        (AMSoftmax, {"scale": -1.0}, r"scale is -1\.0"),
        (ArcFace, {"margin": 28.6}, r"margin is 28\.6; it is an angle in radians"),
        (ArcFace, {"scale": -1.0}, r"scale is -1\.0"),
        (LargeMarginSoftmax, {"margin": 0}, r"margin is 0; it must be a whole number from 1 up"),
        (LargeMarginSoftmax, {"easing": -1.0}, r"easing is -1\.0; it must be at least 0"),
    ],
)
def test_what_is_out_of_range_is_refused(kind: Callable[..., MarginHead], arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make(kind, **arguments)


@pytest.mark.parametrize("classes, probability", [(1, 0.9), (10, 0.1), (10, 1.0)])
def test_a_scale_that_cannot_be_is_refused(classes: int, probability: float) -> None:
    with pytest.raises(ValueError, match=f"{classes} classes and probability {probability}"):
        smallest_scale(classes, probability)
