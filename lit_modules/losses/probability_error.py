"""Errors of class probabilities: how far the softmax of the scores is from the target.

They add up over classes, as they were published. The mean, as torch's ``MSELoss`` takes it, would divide the gradient
by the number of classes, and so want another learning rate for every data set.
"""

from torch import Tensor, nn

from lit_modules.losses.targets import REDUCTIONS, Reduction, check_label_smoothing, to_class_weights


class _ProbabilityError(nn.Module):
    """Base: the sum over classes of an error between softmax and class weights; subclasses say which.

    Args:
        label_smoothing: Share of the target's weight that is spread over all classes.
        reduction: ``"mean"`` over samples, or ``"none"``.

    Raises:
        ValueError: If ``label_smoothing`` is not from 0 to 1.
    """

    def __init__(self, label_smoothing: float = 0.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_label_smoothing(type(self).__name__, label_smoothing)
        self.label_smoothing = label_smoothing
        self.reduction = reduction

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Map scores ``(N, K)`` and targets, labels ``(N,)`` or class weights ``(N, K)``, to the loss."""
        differences = scores.softmax(1) - to_class_weights(targets, scores, self.label_smoothing)
        return REDUCTIONS[self.reduction](self.measure(differences).sum(1))

    def measure(self, differences: Tensor) -> Tensor:
        """Map differences ``(N, K)`` to errors ``(N, K)``."""
        raise NotImplementedError


class SquaredError(_ProbabilityError):
    """Squared error between the softmax and the one-hot target: the score of Brier, 1950.

    Example::

        loss = SquaredError()(scores, labels)

    Args:
        label_smoothing: Share of the target's weight that is spread over all classes.
        reduction: ``"mean"`` over samples, or ``"none"``.

    Raises:
        ValueError: If ``label_smoothing`` is not from 0 to 1.
    """

    def measure(self, differences: Tensor) -> Tensor:
        return differences.square()


class AbsoluteError(_ProbabilityError):
    """Absolute error between the softmax and the one-hot target: robust to wrong labels, slow to train
    (Ghosh et al. 2017, arXiv:1712.09482, section 3).

    Example::

        loss = AbsoluteError()(scores, labels)

    Args:
        label_smoothing: Share of the target's weight that is spread over all classes.
        reduction: ``"mean"`` over samples, or ``"none"``.

    Raises:
        ValueError: If ``label_smoothing`` is not from 0 to 1.
    """

    def measure(self, differences: Tensor) -> Tensor:
        return differences.abs()
