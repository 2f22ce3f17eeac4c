"""Binary cross entropy against torch's and timm's."""

import pytest
import torch
from torch import nn

from lit_modules.losses import BinaryCrossEntropy

SCORES = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
SEVERAL = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0]])


def test_of_several_labels_it_is_torch_s() -> None:
    expected = nn.BCEWithLogitsLoss()(SCORES, SEVERAL.float())
    torch.testing.assert_close(BinaryCrossEntropy()(SCORES, SEVERAL), expected)


def test_of_one_label_it_is_torch_s_with_the_label_written_out() -> None:
    expected = nn.BCEWithLogitsLoss(reduction="none")(SCORES, nn.functional.one_hot(LABELS, 4).float()).mean(1)
    torch.testing.assert_close(BinaryCrossEntropy(reduction="none")(SCORES, LABELS), expected)


def test_smoothing_is_timm_s() -> None:
    timm_loss = pytest.importorskip("timm.loss")
    expected = timm_loss.BinaryCrossEntropy(smoothing=0.2)(SCORES, LABELS)
    torch.testing.assert_close(BinaryCrossEntropy(label_smoothing=0.2)(SCORES, LABELS), expected)


def test_a_smoothing_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"BinaryCrossEntropy: label_smoothing is -0\.1; it must be from 0 to 1"):
        BinaryCrossEntropy(label_smoothing=-0.1)
