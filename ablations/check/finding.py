"""What a diagnostic is, and what it finds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ablations.check.subject import Subject

Verdict = Literal["ok", "look here", "not run"]


@dataclass(frozen=True)
class Finding:
    """What a diagnostic found.

    Args:
        name: that of the diagnostic.
        verdict: whether this is as it should be.
        saw: the numbers that the verdict rests on, in a few words.
        advice: what to do about it; empty unless the verdict is "look here".
    """

    name: str
    verdict: Verdict
    saw: str
    advice: str = ""


@dataclass(frozen=True)
class Need:
    """What a recipe must have for a diagnostic to make sense.

    Args:
        what: its name, as it goes on after "needs".
        holds: whether a recipe has it.
    """

    what: str
    holds: Callable[[Subject], bool]


@dataclass(frozen=True)
class Seen:
    """What a diagnostic's function returns.

    Args:
        text: what it saw.
        advice: what to do about it; empty if it is as it should be.
        enough: whether that is enough to judge by.
    """

    text: str
    advice: str = ""
    enough: bool = True


@dataclass(frozen=True)
class Diagnostic:
    """One question to a recipe; calling it answers it.

    Args:
        name: what it looks at.
        look: looks at a recipe.
        needs: what the recipe must have, or it is not run.
    """

    name: str
    look: Callable[[Subject], Seen]
    needs: tuple[Need, ...]

    def __call__(self, subject: Subject) -> Finding:
        for need in self.needs:
            if not need.holds(subject):
                return Finding(self.name, "not run", f"needs {need.what}")
        seen = self.look(subject)
        if not seen.enough:
            return Finding(self.name, "not run", seen.text)
        return Finding(self.name, "look here" if seen.advice else "ok", seen.text, seen.advice)


def diagnostic(name: str, *needs: Need) -> Callable[[Callable[[Subject], Seen]], Diagnostic]:
    """Make a diagnostic of a function."""
    return lambda look: Diagnostic(name, look, needs)
