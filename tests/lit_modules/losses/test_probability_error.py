"""Errors of probabilities against torch's losses of the softmax."""

import pytest
import torch
from torch import nn

from lit_modules.losses import AbsoluteError, SquaredError

SCORES = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
WEIGHTS = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)).softmax(1)
PAIRS = [(SquaredError, nn.MSELoss), (AbsoluteError, nn.L1Loss)]


@pytest.mark.parametrize("ours, torchs", PAIRS)
def test_it_is_torch_s_loss_of_softmax_and_one_hot_target_summed_over_classes(ours: type, torchs: type) -> None:
    one_hot = nn.functional.one_hot(LABELS, 4).float()
    torch.testing.assert_close(ours()(SCORES, LABELS), 4 * torchs()(SCORES.softmax(1), one_hot))
    smoothed = one_hot * 0.9 + 0.1 / 4
    torch.testing.assert_close(ours(label_smoothing=0.1)(SCORES, LABELS), 4 * torchs()(SCORES.softmax(1), smoothed))


@pytest.mark.parametrize("ours, torchs", PAIRS)
def test_class_weights_are_the_target(ours: type, torchs: type) -> None:
    torch.testing.assert_close(ours()(SCORES, WEIGHTS), 4 * torchs()(SCORES.softmax(1), WEIGHTS))
    apart = torchs(reduction="none")(SCORES.softmax(1), WEIGHTS).sum(1)
    torch.testing.assert_close(ours(reduction="none")(SCORES, WEIGHTS), apart)


@pytest.mark.parametrize("kind", [SquaredError, AbsoluteError])
def test_a_smoothing_that_is_no_share_is_refused(kind: type) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}: label_smoothing is 1\.5"):
        kind(label_smoothing=1.5)
