"""The order of trainings that need each other: each waits for what it needs, and for other studies that are at it."""

from pathlib import Path

from ablations.leases import Watch
from ablations.plan import Training
from ablations.references import Need
from ablations.store import RunFolder


class Queue:
    """Trainings that are yet to start.

    Args:
        trainings: in the order in which they start, as far as none waits for another.
    """

    def __init__(self, trainings: list[Training]) -> None:
        self._waiting = list(trainings)
        self._open = {score for training in trainings for score in _scores(training)}
        self._failed: dict[Need, str] = {}
        self._watches: dict[Path, Watch] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self) -> Training | None:
        """Return the next training that can start now; `None` if all that are left wait for one that runs.

        That may be one of another study on the same store, so ask again after a moment.
        """
        for place, training in enumerate(self._waiting):
            if not self._open & set(training.needs) and not self._is_elsewhere(training):
                return self._waiting.pop(place)
        return None

    def put_back(self, training: Training) -> None:
        """Take back a training that another process was at, to be looked at after all others."""
        self._waiting.append(training)

    def _is_elsewhere(self, training: Training) -> bool:
        return self._watches.setdefault(training.folder, Watch(training.folder)).is_held()

    def blocked(self, training: Training) -> str:
        """Return why a training cannot start at all, and record it; empty if it can."""
        for need in training.needs:
            if need in self._failed:
                reason = f"it needs the training {need.key} with seed {need.seed}, which failed: {self._failed[need]}"
                RunFolder(training.folder).write_status("failed", reason)
                return reason
        return ""

    def finish(self, training: Training, reason: str) -> None:
        """Take in that a training has ended, and why it failed, if it did."""
        scores = _scores(training)
        self._open -= scores
        if reason:  # of some scores, maybe, while others are there
            missing = RunFolder(training.folder).missing(training.scorings)
            self._failed.update({score: reason for score in scores if score.inference in missing})


def _scores(training: Training) -> set[Need]:
    return {Need(training.key, training.seed, name) for name in training.scorings}
