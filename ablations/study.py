"""A study: a base recipe, an ordered list of tricks, seeds, a metric and the published gains."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablations.errors import StudyError
from ablations.seeding import ALWAYS

MODES = ("stack", "leave-one-out", "one-at-a-time", "pairs", "shapley")
SHAPLEY_ORDERS = 8
MAX_ROWS = 100
"""How many rows `pairs` and `shapley` make unless the study allows more."""


@dataclass(frozen=True)
class TrickUse:
    """One entry of a study's list of tricks.

    Args:
        name: the trick's name.
        arguments: what the study sets of it.
        inline: the edits, by verb, of a trick that the study itself defines.
        text: the text of an inline trick.
        revises: the paths that an inline trick may set again.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    inline: dict[str, Any] | None = None
    text: str = ""
    revises: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name, with the arguments that the study sets."""
        arguments = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.name} ({arguments})" if arguments else self.name


@dataclass(frozen=True)
class Reference:
    """Published gains, in the table's unit, and where they were read.

    Args:
        source: paper, table, model and data set.
        gains: gain by trick.
        unconfirmed: the tricks whose gain nobody has read in the source itself; the table prints them in brackets.
    """

    source: str
    gains: dict[str, float]
    unconfirmed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Study:
    """A study as its file says it, with what the command line overrides.

    Args:
        path: the study's file.
        name: the name of its results folder.
        task: one of `classification`, `detection`, `retrieval`.
        base: the base recipe's file.
        metric: the headline metric, as the recipe's model logs it.
        seeds: the seeds of every row.
        tricks: in the order in which they are stacked.
        mode: how rows are made from the tricks.
        scale: what the metric is multiplied with in the table: 100 shows a share as points, 1 a loss as it is.
        higher_is_better: whether a gain is a rise of the metric. Both follow from its name where that is known.
        reference: published gains.
        plugins: Python files with more tricks and classes.
        settings: values by path, set in the base recipe before any trick.
        vary: what differs from seed to seed: `init` and `order` always, and `split` where every seed has a split of the
            data of its own, which all rows share.
        shapley_orders: in how many orders the tricks join in mode `shapley`, if there are that many.
        max_rows: how many rows `pairs` and `shapley` may make.
        wandb_project: the W&B project, or `team/project`, that its trainings are sent to; empty for none.
    """

    path: Path
    name: str
    task: str
    base: Path
    metric: str
    seeds: tuple[int, ...]
    tricks: tuple[TrickUse, ...]
    mode: str = "stack"
    scale: float = 100.0
    higher_is_better: bool = True
    reference: Reference | None = None
    plugins: tuple[Path, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    vary: tuple[str, ...] = ALWAYS
    shapley_orders: int = SHAPLEY_ORDERS
    max_rows: int = MAX_ROWS
    wandb_project: str = ""

    def override(self, *, seeds: int | None, mode: str | None, settings: dict[str, Any]) -> "Study":
        """Return the study with what the command line says instead.

        Raises:
            StudyError: seeds below 1.
        """
        if seeds is not None and seeds < 1:
            raise StudyError(f"--seeds {seeds}: a study needs at least one seed.")
        return replace(
            self,
            seeds=self.seeds if seeds is None else tuple(range(seeds)),
            mode=mode or self.mode,
            settings={**self.settings, **settings},
        )
