"""What a module's ``configure_optimizers`` returns: one optimizer, and a schedule that goes by steps or by epochs.

A schedule gets the length of the run by name, never by position: the second parameter of torch's ``ExponentialLR`` is
a factor, that of ``StepLR`` a number of epochs.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, Protocol

import lightning as L
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, ReduceLROnPlateau

LENGTHS = ("total_steps", "T_max")
"""Parameters of schedules that are the number of optimizer steps of the whole run, unless they are given."""


class TotalStepsSchedule(Protocol):
    """Makes a schedule from the optimizer and, by this name, the number of optimizer steps of the whole run."""

    def __call__(self, optimizer: Optimizer, /, *, total_steps: int) -> LRScheduler: ...


class TMaxSchedule(Protocol):
    """As `TotalStepsSchedule`, by the name that the number has in torch's ``CosineAnnealingLR``."""

    def __call__(self, optimizer: Optimizer, /, *, T_max: int) -> LRScheduler: ...  # noqa: N803


# LightningCLI takes the first form whose missing arguments are all given: the others leave out one of `LENGTHS`.
ScheduleCallable = Callable[[Optimizer], LRScheduler] | TotalStepsSchedule | TMaxSchedule


def set_up_schedule(module: L.LightningModule, optimizer: Optimizer, schedule: ScheduleCallable | None) -> Any:
    """Make the schedule of an optimizer, and say when Lightning steps it.

    After every optimizer step, if it has a parameter ``total_steps`` or its ``T_max`` is filled in here; if it waits
    for a metric, after every epoch that validates; otherwise after every epoch, as LightningCLI steps all schedules.

    Args:
        module: Whose optimizer it is; its trainer knows the length of the run.
        optimizer: The optimizer.
        schedule: Makes the schedule from the optimizer. Its parameters ``total_steps`` and ``T_max`` get the number of
            optimizer steps of the whole run, if it has them and they have no value. None keeps the rate constant.

    Returns:
        What ``configure_optimizers`` may return.

    Raises:
        ValueError: If the schedule lacks another argument, if it needs the length of the run but the run has no known
            number of steps, or if it waits for a metric but does not say for which or validation does not go by
            epochs.
    """
    if schedule is None:
        return optimizer
    if problem := find_schedule_problem(schedule):
        raise ValueError(f"{type(module).__name__}: {problem}")
    lengths = {name: count_total_steps(module) for name in _find_missing_lengths(schedule)}
    make: Callable[..., LRScheduler] = schedule
    scheduler = make(optimizer, **lengths)
    if isinstance(scheduler, ReduceLROnPlateau):
        timing = _wait_for_metric(module, scheduler)
    else:
        names = {*lengths, *_arguments(schedule), *_arguments(type(scheduler))}
        timing = {"interval": "step" if lengths or "total_steps" in names else "epoch"}
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **timing}}


def find_schedule_problem(schedule: ScheduleCallable) -> str:
    """Return why a schedule cannot be made from an optimizer and the length of the run; empty if it can."""
    maker, arguments = _maker(schedule), _arguments(schedule)
    name = getattr(maker, "__qualname__", repr(maker))
    if isinstance(maker, type) and issubclass(maker, ChainedScheduler):
        return f"{name} takes other schedules, not the optimizer. Write a function or a class that makes them from it."
    if isinstance(maker, type) and issubclass(maker, ReduceLROnPlateau) and "monitor" not in arguments:
        return _without_metric(name)
    missing = [key for key, value in list(arguments.items())[1:] if value is inspect.Parameter.empty]
    if missing := [key for key in missing if key not in LENGTHS]:
        return (
            f"{', '.join(missing)} of the schedule {name} must be given, with functools.partial for example. Only "
            f"{' and '.join(LENGTHS)} are filled in, with the number of optimizer steps of the run."
        )
    return ""


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


def _find_missing_lengths(schedule: ScheduleCallable) -> list[str]:
    """Return those of `LENGTHS` that a schedule asks for and was not given."""
    arguments = _arguments(schedule)
    if arguments.get("epochs") and arguments.get("steps_per_epoch"):
        return []  # what OneCycleLR takes instead
    return [name for name in LENGTHS if arguments.get(name, 0) in (None, inspect.Parameter.empty)]


def _maker(schedule: Callable[..., Any]) -> Callable[..., Any]:
    """Return the class or function that makes a schedule, whose arguments `functools.partial` may hold."""
    while isinstance(schedule, functools.partial):
        # What LightningCLI's parser makes of a class path is a partial of a helper that gets the class.
        classes = [value for value in schedule.args if isinstance(value, type) and issubclass(value, LRScheduler)]
        schedule = classes[0] if classes else schedule.func
    return schedule


def _arguments(schedule: Callable[..., Any]) -> dict[str, Any]:
    """Return the named arguments of a schedule: the values given, defaults, or `Parameter.empty` if there is none."""
    maker = _maker(schedule)
    arguments: dict[str, Any] = {}
    for owner in maker.__mro__ if isinstance(maker, type) else (maker,):
        parameters = inspect.signature(owner).parameters.values()
        named = {p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        arguments |= {name: default for name, default in named.items() if name not in arguments}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break  # otherwise the class that it inherits from takes the others
    return arguments | (schedule.keywords if isinstance(schedule, functools.partial) else {})


def _wait_for_metric(module: L.LightningModule, scheduler: ReduceLROnPlateau) -> dict[str, Any]:
    """Return that Lightning steps a schedule on its metric, in the epochs that validate."""
    if not hasattr(scheduler, "monitor"):
        raise ValueError(f"{type(module).__name__}: {_without_metric(type(scheduler).__name__)}")
    every = module.trainer.check_val_every_n_epoch
    if every is None:
        raise ValueError(
            f"{type(module).__name__}: the schedule waits for {scheduler.monitor!r} at the end of epochs, but the "
            f"trainer's check_val_every_n_epoch is None, so it validates in the middle of them. Set it to a number."
        )
    return {"interval": "epoch", "frequency": every, "monitor": scheduler.monitor}


def _without_metric(name: str) -> str:
    return (
        f"the schedule {name} does not say which metric it waits for. Use lit_modules.schedules.ReduceOnPlateau or "
        f"lightning.pytorch.cli.ReduceLROnPlateau, with the metric as monitor."
    )
