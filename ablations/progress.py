"""What a study shows while it runs: rows x seeds done, running and failed, and the time that is left."""

import time
from collections import Counter
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ablations.executors import Event, Postponed, Started
from ablations.plan import Plan, Training

SHOWN_ROWS = 30


class StudyProgress:
    """Follows the events of a study on a terminal; elsewhere, it prints a line now and then.

    Args:
        plan: the study's plan.
        trainings: all trainings that the study needs, those that are done already included.
        waiting: those that are yet to be done.
        console: where to print.
    """

    def __init__(self, plan: Plan, trainings: list[Training], waiting: list[Training], console: Console) -> None:
        self.plan = plan
        self.console = console
        self.total = len(waiting)
        self.finished = 0
        self.failures: list[tuple[Training, str]] = []
        self._started = time.monotonic()
        todo = set(map(_identity, waiting))
        self._seeds = Counter(training.key for training in trainings)
        self._done = Counter(training.key for training in trainings if _identity(training) not in todo)
        self._running: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render, transient=True)

    def __enter__(self) -> "StudyProgress":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Take an event in."""
        key = event.training.key
        if isinstance(event, Started):
            self._running[key] += 1
            return
        self._running[key] -= 1
        if isinstance(event, Postponed):
            return
        self.finished += 1
        if event.reason:
            self._failed[key] += 1
            self.failures.append((event.training, event.reason))
            self.console.print(f"failed: {self._name(key)}, seed {event.training.seed}: {event.reason}", style="red")
        else:
            self._done[key] += 1
        tenth = max(1, self.total // 10)
        if not self.console.is_terminal and (self.finished % tenth == 0 or self.finished == self.total):
            self.console.print(f"{self.finished} of {self.total} trainings, {self._time_left()}")

    def _name(self, key: str) -> str:
        return next(row.name for row in self.plan.rows if row.key == key)

    def _time_left(self) -> str:
        spent = time.monotonic() - self._started
        if not self.finished:
            return "time left: unknown yet"
        return f"about {duration(spent / self.finished * (self.total - self.finished))} left"

    def _render(self) -> Group:
        grid = Table.grid(padding=(0, 2))
        shown = [row for row in self.plan.rows if row.key in self._seeds]
        for row in shown[:SHOWN_ROWS]:
            key, total = row.key, self._seeds[row.key]
            counts = Text(f"{self._done[key]}/{total}")
            if self._running[key]:
                counts.append(f"  {self._running[key]} running", style="cyan")
            if self._failed[key]:
                counts.append(f"  {self._failed[key]} failed", style="red")
            grid.add_row(Text(row.name), ProgressBar(total=total, completed=self._done[key], width=20), counts)
        if len(shown) > SHOWN_ROWS:
            grid.add_row(Text(f"and {len(shown) - SHOWN_ROWS} more rows"))
        return Group(grid, Text(f"{self.finished} of {self.total} trainings, {self._time_left()}"))


def _identity(training: Training) -> tuple[Any, ...]:
    return training.key, training.seed, *training.scorings


def duration(seconds: float) -> str:
    """Return a length of time in words, rounded as people say it."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
