"""What an executor says while it works."""

from dataclasses import dataclass

from ablations.plan import Training


@dataclass(frozen=True)
class Started:
    """A training has started."""

    training: Training


@dataclass(frozen=True)
class Finished:
    """A training has ended; `reason` says why it failed and is empty if it did not."""

    training: Training
    reason: str = ""


@dataclass(frozen=True)
class Postponed:
    """A training that had started was left to another study, which is at it; what became of it is looked at later."""

    training: Training


Event = Started | Finished | Postponed
