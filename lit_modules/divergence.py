"""The error of a training whose loss is no longer a number."""


class DivergedError(RuntimeError):
    """A training diverged: the mean loss of an epoch is NaN or infinite.

    Args:
        epoch: The epoch, counted from 0.
        loss: Its mean training loss.
    """

    def __init__(self, epoch: int, loss: float) -> None:
        # The arguments go to the base class, since pickle calls the class with them on its way back from a process.
        super().__init__(epoch, loss)
        self.epoch = epoch
        self.loss = loss

    def __str__(self) -> str:
        return (
            f"The training diverged: the mean training loss of epoch {self.epoch} (counted from 0) is {self.loss}. "
            f"A lower learning rate, warmup or gradient clipping are the usual remedies."
        )
