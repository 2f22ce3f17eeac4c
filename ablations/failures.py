"""Why a training failed, in one line: for its record, the table and the terminal."""

import re

import torch

from ablations.errors import RecipeError
from lit_modules import DivergedError


class TrainingError(RuntimeError):
    """Base of the errors whose message is the whole reason why a training failed."""


class MissingNeedError(TrainingError):
    """A training builds on another one that the store does not hold."""


class InterruptedTrainingError(TrainingError):
    """The fit ended before its last epoch, though nothing was raised: a signal, or a callback that stopped it."""


class NotFiniteError(TrainingError):
    """A training or its test ended with numbers that are none: NaN weights, an infinite loss."""


class ScoringError(TrainingError):
    """A training is done, and its weights are stored, but a score of it could not be made."""


def failure_reason(error: BaseException) -> str:
    """Return in one line why a training failed."""
    if isinstance(error, TrainingError | DivergedError | RecipeError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"
    before = None if error.__cause__ or error.__suppress_context__ else error.__context__
    if before is None:
        return _in_one_line(error)
    # What goes wrong while a trainer is taken down says nothing of the reason why it is.
    return f"{failure_reason(before)} (then {_in_one_line(error)})"


def _in_one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if re.match(r"Caught \w+ in DataLoader worker process", lines[0]):  # the traceback of that process follows
        return lines[-1]
    return f"{type(error).__name__}: {lines[0]}"
