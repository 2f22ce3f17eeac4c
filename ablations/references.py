"""Rows that build on other rows: how a recipe names what another training leaves behind.

A study writes `row:NAME`, a trick or a row of the same study. The planner turns it into `training:KEY/INFERENCE`: what
the training with that key and the same seed got with that inference setting. A recipe with such a reference runs as
soon as the run store holds that training.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROW, TRAINING = "row:", "training:"


@dataclass(frozen=True)
class Need:
    """A score of another training, which must be there first.

    Args:
        key: the key of the training.
        seed: its seed.
        inference: the name of the inference setting.
    """

    key: str
    seed: int
    inference: str

    def folder(self, store: Path) -> Path:
        """Return the folder of the training."""
        return store / self.key / f"seed-{self.seed}"


def reference_to(key: str, inference: str) -> str:
    """Return how a recipe names what a training got with an inference setting."""
    return f"{TRAINING}{key}/{inference}"


def parse_reference(text: str) -> tuple[str, str]:
    """Return the key and the inference setting that a reference names."""
    key, _, inference = text.removeprefix(TRAINING).partition("/")
    return key, inference


def references(value: Any, kind: str) -> Iterator[str]:
    """Yield the references of one kind, `ROW` or `TRAINING`, in a recipe or a part of it."""
    if isinstance(value, str):
        if value.startswith(kind):
            yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from references(item, kind)


def replace_references(value: Any, kind: str, replace: Callable[[str], str]) -> Any:
    """Return a recipe, or a part of it, with other text for each reference of one kind."""
    if isinstance(value, str):
        return replace(value) if value.startswith(kind) else value
    if isinstance(value, dict):
        return {key: replace_references(item, kind, replace) for key, item in value.items()}
    if isinstance(value, list):
        return [replace_references(item, kind, replace) for item in value]
    return value
