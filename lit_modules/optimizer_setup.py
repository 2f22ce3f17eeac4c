"""What a module's ``configure_optimizers`` returns: one optimizer, and a schedule that knows how long the run is."""

import math
from collections.abc import Callable
from typing import Any

import lightning as L
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_modules.schedules import ReduceOnPlateau

ScheduleCallable = Callable[[Optimizer, int], LRScheduler]


def set_up_schedule(module: L.LightningModule, optimizer: Optimizer, schedule: ScheduleCallable | None) -> Any:
    """Make the schedule of an optimizer, and say when Lightning steps it.

    Args:
        module: Whose optimizer it is; its trainer knows the length of the run.
        optimizer: The optimizer.
        schedule: Makes the schedule from the optimizer and the number of optimizer steps of the whole run. None keeps
            the rate constant.

    Returns:
        What ``configure_optimizers`` may return.

    Raises:
        ValueError: If there is a schedule but the run has no known number of steps, or it waits for a metric but
            validation does not go by epochs.
    """
    if schedule is None:
        return optimizer
    scheduler = schedule(optimizer, count_total_steps(module))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **_choose_interval(module, scheduler)}}


def count_total_steps(module: L.LightningModule) -> int:
    """Return the optimizer steps of the whole run, as the trainer's settings and the length of the data say.

    Raises:
        ValueError: If they say nothing.
    """
    steps = module.trainer.estimated_stepping_batches
    if not 0 < steps < math.inf:
        raise ValueError(
            f"{type(module).__name__}: the schedule needs the number of optimizer steps of the run, but the trainer "
            f"says {steps}. Set max_epochs, or max_steps if the data has no length; or use no schedule."
        )
    return int(steps)


def _choose_interval(module: L.LightningModule, scheduler: LRScheduler) -> dict[str, Any]:
    """Return when Lightning steps the scheduler: every step, or on a metric in the epochs that validate."""
    if not isinstance(scheduler, ReduceOnPlateau):
        return {"interval": "step"}
    every = module.trainer.check_val_every_n_epoch
    if every is None:
        raise ValueError(
            f"{type(module).__name__}: the schedule waits for {scheduler.monitor!r} at the end of epochs, but the "
            f"trainer's check_val_every_n_epoch is None, so it validates in the middle of them. Set it to a number."
        )
    return {"interval": "epoch", "frequency": every, "monitor": scheduler.monitor}
