"""What the scores of a classifier mean: how they become probabilities, and how predictions are averaged."""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-12


class Outputs(ABC):
    """Base of the ways to read scores.

    Example::

        probabilities = outputs.probabilities(scores)
        together = outputs.average(torch.stack([first_scores, second_scores]))
    """

    @abstractmethod
    def probabilities(self, scores: Tensor) -> Tensor:
        """Map scores ``(N, K)`` to probabilities ``(N, K)``."""

    @abstractmethod
    def average(self, scores: Tensor) -> Tensor:
        """Map the scores of several views or networks ``(V, N, K)`` to scores ``(N, K)`` of their mean probabilities.

        The probabilities of what it returns are the mean of the probabilities of what it is given.
        """

    @abstractmethod
    def scores(self, probabilities: Tensor) -> Tensor:
        """Map probabilities ``(N, K)`` to scores ``(N, K)`` that have them; 0 and 1 count as 1e-12 off."""


class SoftmaxOutputs(Outputs):
    """Every image has one class: probabilities are the softmax of the scores and add up to 1."""

    def probabilities(self, scores: Tensor) -> Tensor:
        return scores.softmax(-1)

    def average(self, scores: Tensor) -> Tensor:
        return scores.log_softmax(-1).logsumexp(0)  # the log of their sum: softmax divides by the number of views

    def scores(self, probabilities: Tensor) -> Tensor:
        return probabilities.clamp(min=SMALLEST).log()


class SigmoidOutputs(Outputs):
    """Every label is there or not, whatever the others are: probabilities are the sigmoid of the scores."""

    def probabilities(self, scores: Tensor) -> Tensor:
        return scores.sigmoid()

    def average(self, scores: Tensor) -> Tensor:
        return F.logsigmoid(scores).logsumexp(0) - F.logsigmoid(-scores).logsumexp(0)  # ln p - ln(1 - p) of the mean

    def scores(self, probabilities: Tensor) -> Tensor:
        return probabilities.double().clamp(SMALLEST, 1 - SMALLEST).logit().to(probabilities.dtype)
