"""Focal loss."""

from torch import Tensor, nn

from lit_modules.losses.targets import REDUCTIONS, Reduction, check_label_smoothing, to_class_weights


class FocalLoss(nn.Module):
    """Cross entropy in which a class of probability p counts (1 - p)^gamma (Lin et al. 2017, arXiv:1708.02002, eq. 4).

    The sum over classes, each with its share of the target, so class weights and smoothing stack with it; of two
    classes it is the sigmoid form of the paper. For that form itself take ``torchvision.ops.sigmoid_focal_loss``.

    Example::

        loss = FocalLoss(gamma=2.0)(scores, labels)

    Args:
        gamma: Strength. 0 is cross entropy.
        label_smoothing: Share of the target's weight that is spread over all classes.
        reduction: ``"mean"`` over samples, or ``"none"``.

    Raises:
        ValueError: If ``gamma`` is negative, or ``label_smoothing`` is not from 0 to 1.
    """

    def __init__(self, gamma: float = 2.0, label_smoothing: float = 0.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"FocalLoss: gamma is {gamma}; it must be at least 0.")
        check_label_smoothing("FocalLoss", label_smoothing)
        self.gamma = gamma
        self.label_smoothing = label_smoothing
        self.reduction = reduction

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Map scores ``(N, K)`` and targets, labels ``(N,)`` or class weights ``(N, K)``, to the loss."""
        weights = to_class_weights(targets, scores, self.label_smoothing)
        log_probabilities = scores.log_softmax(1)
        # Kept above 0, where a power below 1 has no finite gradient.
        others = (1 - log_probabilities.exp()).clamp(min=1e-7)
        return REDUCTIONS[self.reduction](-(weights * others**self.gamma * log_probabilities).sum(1))
