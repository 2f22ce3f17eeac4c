"""Mean of a per-sample quantity over an epoch.

torchmetrics' ``MeanMetric`` cannot stand in: its NaN check waits for the device on every update, it moves a plain
number given as weight to the device by a blocking copy, and with ``nan_strategy="disable"`` it ignores the weights
(1.9).
"""

import torch
from torch import Tensor
from torchmetrics import Metric


class SampleMean(Metric):
    """Adds up a quantity over samples and divides by their number, so that a smaller last batch counts for less.

    Never waits for the device before :meth:`compute`. A NaN in any batch makes the mean NaN.

    Example::

        mean = SampleMean()
        mean.update(torch.tensor(3.0), count=3)
        mean.update(torch.tensor(5.0), count=1)
        mean.compute()  # 2.0
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: int) -> None:
        """Add a batch.

        Args:
            total: Sum of the quantity over the batch, a scalar tensor without gradient.
            count: Number of samples in the batch.
        """
        # Not in place: a state that Lightning reset in inference mode could not be written outside of it.
        self.total = self.total + total
        self.count = self.count + count

    def compute(self) -> Tensor:
        """Return the mean over all samples of all batches and all ranks."""
        return self.total / self.count
