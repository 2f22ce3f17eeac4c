"""The errors that a user of studies can cause; the command line prints their message and exits with 2."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, existing: Iterable[str]) -> str:
    """Return a sentence, with a space before it, that offers the nearest of the names there are; or nothing."""
    near = difflib.get_close_matches(name, list(existing), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


class UserError(ValueError):
    """Something that the user wrote cannot be done; the message says what, where, and what would be right."""


class RecipeError(UserError):
    """A recipe, or an edit of one, is wrong."""


class StudyError(UserError):
    """A study is wrong; the message lists every problem that was found."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return f"{len(self.problems)} problems:\n" + "\n".join(f"  - {problem}" for problem in self.problems)


class StoreError(UserError):
    """A results folder cannot be used."""
