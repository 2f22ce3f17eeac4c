"""The cyclic learning-rate schedule of snapshot ensembles, in the form that `LitClassifier` calls."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts


class CosineCycles(CosineAnnealingWarmRestarts):
    """Lets the learning rate fall along half a cosine in each of several equal cycles (Huang et al. 2017,
    arXiv:1704.00109, equation 2). The end of the last cycle is the end of the run.

    Example::

        CosineCycles(optimizer, total_steps=1000, cycles=5)  # back at the full rate at steps 200, 400, 600 and 800

    Args:
        optimizer: The optimizer.
        total_steps: Steps of the whole run. One call of :meth:`step` is one step.
        cycles: Number of cycles, which divides the steps.
        min_lr: The rate that each cycle falls towards, in every parameter group.

    Raises:
        ValueError: If the cycles are not a positive number that divides the steps.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, cycles: int = 5, min_lr: float = 0.0) -> None:
        if cycles < 1 or total_steps % cycles:
            raise ValueError(
                f"CosineCycles: {cycles} cycles do not divide the run's {total_steps} optimizer steps. "
                f"Choose cycles that divide its epochs."
            )
        super().__init__(optimizer, total_steps // cycles, eta_min=min_lr)
