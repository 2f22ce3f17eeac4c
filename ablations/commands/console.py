"""What the command line prints to."""

from rich.console import Console

PIPED_WIDTH = 110
"""Columns where nobody looks: a pipe or a file has no width of its own."""


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=PIPED_WIDTH)


out = _console(stderr=False)
err = _console(stderr=True)
