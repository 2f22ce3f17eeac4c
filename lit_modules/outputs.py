"""What the scores of a classifier mean: how they become probabilities, and how predictions are averaged and judged."""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-12


class Outputs(ABC):
    """Base of the ways to read scores.

    Example::

        probabilities = outputs.probabilities(scores)
        together = outputs.average(torch.stack([first_scores, second_scores]))
        loss = outputs.negative_log_likelihood(together, labels).mean()
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

    @abstractmethod
    def negative_log_likelihood(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Map scores ``(N, K)`` and targets to minus the log-probability of each image's targets, ``(N,)``.

        It depends on the probabilities alone, so it compares networks that were trained with any loss. Targets are
        labels ``(N,)``, several labels as zeros and ones ``(N, K)``, or class weights ``(N, K)``.
        """


class SoftmaxOutputs(Outputs):
    """Every image has one class: probabilities are the softmax of the scores and add up to 1."""

    def probabilities(self, scores: Tensor) -> Tensor:
        return scores.softmax(-1)

    def average(self, scores: Tensor) -> Tensor:
        return scores.log_softmax(-1).logsumexp(0)  # the log of their sum: softmax divides by the number of views

    def scores(self, probabilities: Tensor) -> Tensor:
        return probabilities.clamp(min=SMALLEST).log()

    def negative_log_likelihood(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Map scores and targets to their cross entropy; class weights weight the classes' log-probabilities."""
        return F.cross_entropy(scores, targets if targets.ndim == 1 else targets.to(scores.dtype), reduction="none")


class SigmoidOutputs(Outputs):
    """Every label is there or not, whatever the others are: probabilities are the sigmoid of the scores.

    Of images that have one label each it is known that they have one. Given that, the probability of a label is the
    softmax of the scores, so the likelihood compares with that of `SoftmaxOutputs`.
    """

    def probabilities(self, scores: Tensor) -> Tensor:
        return scores.sigmoid()

    def average(self, scores: Tensor) -> Tensor:
        return F.logsigmoid(scores).logsumexp(0) - F.logsigmoid(-scores).logsumexp(0)  # ln p - ln(1 - p) of the mean

    def scores(self, probabilities: Tensor) -> Tensor:
        return probabilities.double().clamp(SMALLEST, 1 - SMALLEST).logit().to(probabilities.dtype)

    def negative_log_likelihood(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Map scores and targets to the likelihood of all labels of an image: the sum of what each of them adds.

        Labels ``(N,)`` are judged given that each image has exactly one. Zeros and ones, or shares, ``(N, K)`` are not.
        """
        if targets.ndim == 1:
            return F.cross_entropy(scores, targets, reduction="none")
        return F.binary_cross_entropy_with_logits(scores, targets.to(scores.dtype), reduction="none").sum(1)
