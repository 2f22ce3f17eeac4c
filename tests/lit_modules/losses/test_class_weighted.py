"""Class weights against torch's weighted loss and scikit-learn's balanced weights."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from lit_modules.losses import ClassWeightedCrossEntropy

SCORES = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.tensor([0, 0, 1, 1, 2, 0])
WEIGHTS = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)).softmax(1)
TRAINING = torch.tensor([0] * 7 + [1] * 2 + [2] * 3)


def test_inverse_frequencies_are_scikit_learn_s_balanced_weights() -> None:
    loss = ClassWeightedCrossEntropy(3)
    loss.learn_frequencies(TRAINING)
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=TRAINING.numpy())
    torch.testing.assert_close(loss.weight, torch.from_numpy(balanced).float())


@pytest.mark.parametrize("weights", [None, [1.0, 5.0, 0.0]])
def test_the_mean_weight_of_the_training_samples_is_one(weights: list[float] | None) -> None:
    loss = ClassWeightedCrossEntropy(3, weights)
    loss.learn_frequencies(TRAINING)
    assert loss.weight[TRAINING].mean().item() == pytest.approx(1)
    if weights is not None:
        torch.testing.assert_close(loss.weight / loss.weight[0], torch.tensor(weights))


def test_one_hot_targets_are_counted_as_labels_are() -> None:
    by_label, by_weight = ClassWeightedCrossEntropy(3), ClassWeightedCrossEntropy(3)
    by_label.learn_frequencies(TRAINING)
    by_weight.learn_frequencies(nn.functional.one_hot(TRAINING, 3))
    assert torch.equal(by_label.weight, by_weight.weight)


def test_a_class_without_samples_has_no_weight() -> None:
    loss = ClassWeightedCrossEntropy(4)
    loss.learn_frequencies(TRAINING)
    torch.testing.assert_close(loss.weight, torch.tensor([12 / 21, 12 / 6, 12 / 9, 0.0]))


@pytest.mark.parametrize("targets", [LABELS, WEIGHTS], ids=["labels", "class weights"])
def test_samples_are_weighted_as_in_torch(targets: torch.Tensor) -> None:
    loss = ClassWeightedCrossEntropy(3, label_smoothing=0.1, reduction="none")
    loss.learn_frequencies(TRAINING)
    expected = nn.CrossEntropyLoss(loss.weight, label_smoothing=0.1, reduction="none")(SCORES, targets)
    torch.testing.assert_close(loss(SCORES, targets), expected)
    loss.reduction = "mean"
    torch.testing.assert_close(loss(SCORES, targets), expected.mean())


def test_before_training_it_is_plain_cross_entropy() -> None:
    expected = nn.functional.cross_entropy(SCORES, LABELS)
    torch.testing.assert_close(ClassWeightedCrossEntropy(3, [1.0, 2.0, 3.0])(SCORES, LABELS), expected)


def test_what_was_learned_is_in_the_state_dict() -> None:
    loss, other = ClassWeightedCrossEntropy(3), ClassWeightedCrossEntropy(3)
    loss.learn_frequencies(TRAINING)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(SCORES, LABELS), loss(SCORES, LABELS))


@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0, -1.0, 1.0], [0.0, 0.0, 0.0]])
def test_weights_that_cannot_be_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="it must list 3 numbers, one for each class, none of them negative"):
        ClassWeightedCrossEntropy(3, weights)


def test_a_smoothing_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="label_smoothing is 3"):
        ClassWeightedCrossEntropy(3, label_smoothing=3)


def test_training_samples_without_any_weight_are_refused() -> None:
    with pytest.raises(ValueError, match="no class of the training samples has a weight above 0"):
        ClassWeightedCrossEntropy(3, [0.0, 1.0, 1.0]).learn_frequencies(torch.zeros(5, dtype=torch.int64))
