"""Lovász losses: convex surrogates of the Jaccard index, that is the intersection over union.

The samples of a batch are to a label what the pixels of an image are to a class in segmentation. The index is that of
the whole batch, so an evaluation's loss depends on the size of its batches.
"""

import torch
from torch import Tensor, nn

from lit_modules.losses.targets import to_class_weights


class LovaszHinge(nn.Module):
    """The Lovász extension of 1 - IoU over hinge errors, each label apart, the mean over labels.

    For images of several labels (Berman et al. 2018, arXiv:1705.08790, section 2.2).

    Example::

        loss = LovaszHinge()(scores, several_labels)

    Raises:
        ValueError: If the first targets are class weights that are neither 0 nor 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self._checked = False

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Map scores ``(N, K)`` and targets, labels ``(N,)`` or zeros and ones ``(N, K)``, to the loss."""
        present = to_class_weights(targets, scores)
        if not self._checked:
            _check_whole(present)
            self._checked = True  # looking waits for the device, so once is enough
        errors = 1 - scores * (2 * present - 1)
        return _extend_jaccard(errors.relu(), present).mean()


class LovaszSoftmax(nn.Module):
    """The Lovász extension of 1 - IoU over errors of the softmax, the mean over the classes that are in the batch.

    For images of one label (Berman et al. 2018, arXiv:1705.08790, section 2.3).

    Example::

        loss = LovaszSoftmax()(scores, labels)

    Raises:
        ValueError: If the targets are class weights.
    """

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Map scores ``(N, K)`` and labels ``(N,)`` to the loss."""
        if targets.ndim != 1:
            raise ValueError(
                f"LovaszSoftmax: targets have the shape {tuple(targets.shape)}; it needs one label a sample, (N,). "
                f"It has no meaning for mixed images: leave out mixup and cutmix."
            )
        present = to_class_weights(targets, scores)
        losses = _extend_jaccard((present - scores.softmax(1)).abs(), present)
        occurs = present.amax(0)
        return (losses * occurs).sum() / occurs.sum()


def _extend_jaccard(errors: Tensor, present: Tensor) -> Tensor:
    """Return the Lovász extension of each class's Jaccard loss at the errors (algorithm 1 of the paper).

    Args:
        errors: ``(N, K)``, not negative.
        present: Whether a sample has a class, zeros and ones ``(N, K)``.

    Returns:
        Losses by class ``(K,)``.
    """
    errors, order = errors.sort(0, descending=True)
    present = present.gather(0, order)
    intersection = present.sum(0) - present.cumsum(0)
    union = present.sum(0) + (1 - present).cumsum(0)
    jaccard = 1 - intersection / union
    steps = torch.cat([jaccard[:1], jaccard.diff(dim=0)])
    return (errors * steps).sum(0)


def _check_whole(present: Tensor) -> None:
    if not ((present == 0) | (present == 1)).all():
        raise ValueError(
            "LovaszHinge: targets (N, K) must be zeros and ones, whether a sample has a label, and some are between. "
            "It has no meaning for mixed images: leave out mixup and cutmix."
        )
