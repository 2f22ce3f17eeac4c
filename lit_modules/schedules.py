"""Learning-rate schedules in the form that :class:`lit_modules.LitClassifier` calls: ``schedule(optimizer, steps)``.

Torch's own schedulers whose second argument is a number of steps, such as ``CosineAnnealingLR``, fit as they are; here
is only what torch lacks.
"""

import itertools
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR


class FractionalMultiStepLR(MultiStepLR):
    """Multiplies the learning rate by `gamma` at fractions of the run, so that a longer run needs no new milestones.

    The defaults are those of He et al. 2018 (arXiv:1812.01187): after 30, 60 and 90 of 120 epochs.

    Example::

        FractionalMultiStepLR(optimizer, total_steps=1000, milestones=[0.5, 0.75])  # at steps 500 and 750

    Args:
        optimizer: The optimizer.
        total_steps: Steps of the whole run. One call of :meth:`step` is one step.
        milestones: Fractions of the run, each above 0 and below 1, increasing. Rounded to the nearest step.
        gamma: Factor at each milestone.

    Raises:
        ValueError: If the milestones are not increasing fractions.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        milestones: Sequence[float] = (0.25, 0.5, 0.75),
        gamma: float = 0.1,
    ) -> None:
        fractions = list(milestones)
        increasing = all(first < second for first, second in itertools.pairwise(fractions))
        if not increasing or not all(0 < fraction < 1 for fraction in fractions):
            raise ValueError(
                f"FractionalMultiStepLR: milestones is {fractions}; it must list increasing fractions of the run, each "
                f"above 0 and below 1. For steps or epochs, divide by the length of the run."
            )
        super().__init__(optimizer, [round(fraction * total_steps) for fraction in fractions], gamma)
