"""What holds for every loss: both forms of targets, and no wait for the device."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lit_modules.losses import (
    OHEM,
    AbsoluteError,
    AMSoftmax,
    ArcFace,
    BinaryCrossEntropy,
    ClassWeightedCrossEntropy,
    FBetaLoss,
    FocalLoss,
    LargeMarginSoftmax,
    LovaszHinge,
    LovaszSoftmax,
    NormFace,
    SquaredError,
)
from lit_modules.losses.targets import to_class_weights

SCORES = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
LOSSES = [
    FocalLoss(label_smoothing=0.1),
    ClassWeightedCrossEntropy(4),
    OHEM(SquaredError(reduction="none")),
    BinaryCrossEntropy(),
    FBetaLoss(),
    LovaszHinge(),
    LovaszSoftmax(),
    SquaredError(),
    AbsoluteError(),
]
HEADS = [kind(4, 4) for kind in (NormFace, AMSoftmax, ArcFace, LargeMarginSoftmax)]


class CountReads(TorchDispatchMode):
    """Lists the operations that read a value from the device, or give a shape that depends on one."""

    waiting = ("_local_scalar_dense", "unique", "nonzero", "masked_select", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in self.waiting):
            self.reads.append(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_loss_never_reads_a_value_from_the_device(loss: nn.Module) -> None:
    loss(SCORES, LABELS)  # the first targets may be looked at
    scores = SCORES.clone().requires_grad_()
    with CountReads() as counted:
        loss(scores, LABELS).backward()
    assert counted.reads == []
    assert scores.grad is not None
    assert scores.grad.abs().sum() > 0


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_a_head_never_reads_a_value_from_the_device(head: nn.Module) -> None:
    with CountReads() as counted:
        head(SCORES, LABELS).sum().backward()
    assert counted.reads == []


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if not isinstance(loss, LovaszSoftmax)], ids=str)
def test_a_label_is_the_class_weight_one(loss: nn.Module) -> None:
    one_hot = nn.functional.one_hot(LABELS, 4).float()
    torch.testing.assert_close(loss(SCORES, LABELS), loss(SCORES, one_hot))


@pytest.mark.parametrize("targets", [LABELS, SCORES.softmax(1)], ids=["labels", "class weights"])
def test_targets_are_smoothed_as_torch_smooths_them(targets: Tensor) -> None:
    weights = to_class_weights(targets, SCORES, label_smoothing=0.2)
    expected = nn.functional.cross_entropy(SCORES, targets, label_smoothing=0.2)
    torch.testing.assert_close(nn.functional.cross_entropy(SCORES, weights), expected)
