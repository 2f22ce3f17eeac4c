"""How scores are read, against the mean of probabilities, and what they say of the targets, against loops."""

import itertools
import math

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


# --- likelihood -----------------------------------------------------------------------------------------------------

LABELS = torch.tensor([0, 3, 1, 2, 3])
SEVERAL = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 1, 1]])
WEIGHTS = torch.rand(5, 4, generator=torch.Generator().manual_seed(1))


def test_softmax_gives_each_label_the_logarithm_of_its_probability() -> None:
    found = SoftmaxOutputs().negative_log_likelihood(SCORES[0], LABELS)
    naive = []
    for scores, label in zip(SCORES[0].tolist(), LABELS.tolist(), strict=True):
        naive.append(-math.log(math.exp(scores[label]) / sum(map(math.exp, scores))))
    torch.testing.assert_close(found, torch.tensor(naive))


def test_softmax_weights_the_classes_of_mixed_images() -> None:
    shares = WEIGHTS / WEIGHTS.sum(1, keepdim=True)
    found = SoftmaxOutputs().negative_log_likelihood(SCORES[0], shares)
    logarithms = SCORES[0].softmax(1).log()
    naive = [-sum(shares[n, k] * logarithms[n, k] for k in range(4)) for n in range(5)]
    torch.testing.assert_close(found, torch.stack(naive))
    labels = torch.nn.functional.one_hot(LABELS, 4)
    torch.testing.assert_close(
        SoftmaxOutputs().negative_log_likelihood(SCORES[0], labels),
        SoftmaxOutputs().negative_log_likelihood(SCORES[0], LABELS),
    )


@pytest.mark.parametrize("targets", [SEVERAL, WEIGHTS], ids=["several labels", "shares"])
def test_sigmoids_add_up_what_each_label_says_of_being_there(targets: torch.Tensor) -> None:
    found = SigmoidOutputs().negative_log_likelihood(SCORES[0], targets)
    naive = []
    for scores, there in zip(SCORES[0].tolist(), targets.tolist(), strict=True):
        chances = [1 / (1 + math.exp(-score)) for score in scores]
        parts = [t * math.log(p) + (1 - t) * math.log(1 - p) for p, t in zip(chances, there, strict=True)]
        naive.append(-sum(parts))
    torch.testing.assert_close(found, torch.tensor(naive))


def test_sigmoids_know_of_images_of_one_label_that_they_have_one() -> None:
    found = SigmoidOutputs().negative_log_likelihood(SCORES[0], LABELS)
    naive = []
    for scores, label in zip(SCORES[0].tolist(), LABELS.tolist(), strict=True):
        chances = [1 / (1 + math.exp(-score)) for score in scores]
        together = {
            there: math.prod(p if t else 1 - p for p, t in zip(chances, there, strict=True))
            for there in itertools.product([False, True], repeat=4)
            if sum(there) == 1
        }
        own = next(chance for there, chance in together.items() if there[label])
        naive.append(-math.log(own / sum(together.values())))
    torch.testing.assert_close(found, torch.tensor(naive))


@pytest.mark.parametrize("outputs", [SoftmaxOutputs(), SigmoidOutputs()])
@pytest.mark.parametrize("targets", [LABELS, SEVERAL], ids=["labels", "several"])
def test_the_likelihood_of_certain_scores_is_finite(outputs: Outputs, targets: torch.Tensor) -> None:
    assert outputs.negative_log_likelihood(1e4 * SCORES[0], targets).isfinite().all()
