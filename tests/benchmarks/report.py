"""A measured figure and its goal."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Args:
        name: what was measured, with its unit.
        value: the figure.
        goal: what it should reach.
        at_most: whether the goal is an upper bound; a lower one otherwise.
    """

    name: str
    value: float
    goal: float
    at_most: bool

    def is_met(self) -> bool:
        """Return whether the figure reaches its goal."""
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{self.name}: {self.value:.3g} ({sign} {self.goal:g}){'' if self.is_met() else '  MISSED'}"


def median_ratio(one: Callable[[], float], other: Callable[[], float], pairs: int) -> float:
    """Return the median of one / other, measured in turn so that a change of the machine's speed touches both."""
    return statistics.median(one() / other() for _ in range(pairs))


def seconds(function: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
