"""How scores are read, against the mean of probabilities."""

import pytest
import torch

from lit_modules.outputs import Outputs, SigmoidOutputs, SoftmaxOutputs

SCORES = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)) * 4


@pytest.mark.parametrize("outputs", [SoftmaxOutputs(), SigmoidOutputs()])
def test_the_average_has_the_mean_of_the_probabilities(outputs: Outputs) -> None:
    expected = outputs.probabilities(SCORES).mean(0)
    torch.testing.assert_close(outputs.probabilities(outputs.average(SCORES)), expected)
    torch.testing.assert_close(outputs.probabilities(outputs.average(SCORES[:1])), outputs.probabilities(SCORES[0]))


def test_certain_scores_have_a_finite_average() -> None:
    certain = torch.tensor([[[500.0, -500.0]], [[500.0, -500.0]]])
    for outputs in (SoftmaxOutputs(), SigmoidOutputs()):
        assert outputs.average(certain).isfinite().all()
    torch.testing.assert_close(SigmoidOutputs().average(certain), certain[0])


@pytest.mark.parametrize("outputs", [SoftmaxOutputs(), SigmoidOutputs()])
def test_the_scores_of_probabilities_have_these_probabilities(outputs: Outputs) -> None:
    probabilities = outputs.probabilities(SCORES[0])
    torch.testing.assert_close(outputs.probabilities(outputs.scores(probabilities)), probabilities)
    certain = torch.tensor([[1.0, 0.0]])
    assert outputs.scores(certain).isfinite().all()
    torch.testing.assert_close(outputs.probabilities(outputs.scores(certain)), certain)
