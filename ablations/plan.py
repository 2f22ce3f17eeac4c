"""What a study needs: its rows, and the trainings behind them, each once. Plain records, made by the planner."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablations.recipe import Change, changes
from ablations.store import RunFolder, RunStore
from ablations.study import Study


@dataclass(frozen=True)
class Scoring:
    """How a training is scored.

    Args:
        weights: the name under which the weights to score are stored.
        section: the recipe's `inference` section.
    """

    weights: str
    section: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        index: its number.
        name: what it is called in table, store and W&B.
        text: what it adds, in one sentence.
        trick: the trick that it is about; `None` for the row that the others are compared with.
        compared_to: the row that its gain is measured from.
        sign: 1 if this row has the trick and the other has not, -1 if it is the other way round.
        recipe: the resolved recipe, with the first seed.
        definition: a hash of what the user wrote to make this row.
        key: the key of its trainings.
        inference: the name of its inference setting.
        published: the published gain, if the study gives one.
        unconfirmed: whether nobody has read that gain in the source itself.
    """

    index: int
    name: str
    text: str
    trick: str | None
    compared_to: int | None
    sign: int
    recipe: dict[str, Any]
    definition: str
    key: str = ""
    inference: str = ""
    published: float | None = None
    unconfirmed: bool = False


@dataclass(frozen=True)
class Plan:
    """The rows of a study and the trainings that they need.

    Args:
        study: the study.
        rows: the lines of the table.
        recipes: by key of a training: the recipe to train, with all observers that any row needs.
        scorings: by key of a training: how it is scored, by name.
    """

    study: Study
    rows: tuple[Row, ...]
    recipes: dict[str, dict[str, Any]]
    scorings: dict[str, dict[str, Scoring]]

    def trainings(self, store: RunStore, rows: list[int] | None = None, code: str | None = None) -> list["Training"]:
        """Return the trainings of the given rows, or of all, those of one seed side by side."""
        chosen = [row for row in self.rows if rows is None or row.index in rows]
        names: dict[str, set[str]] = {}
        for row in chosen:
            names.setdefault(row.key, set()).add(row.inference)
        return [
            Training(
                key=key,
                seed=seed,
                recipe=self.recipes[key],
                scorings={name: how for name, how in self.scorings[key].items() if name in names[key]},
                folder=store.folder(key, seed).path,
                plugins=self.study.plugins,
                code=code,
            )
            for seed in self.study.seeds
            for key in names
        ]


@dataclass(frozen=True)
class Training:
    """What one process is asked to do: train a recipe with one seed, and score it.

    Args:
        key: the key of the training.
        seed: its seed.
        recipe: the resolved recipe.
        scorings: how to score it, by name.
        folder: where everything is written.
        plugins: Python files to import first, since the recipe names their classes.
        checkpoint_seconds: the shortest time between two checkpoints to resume from.
        code: the version of our own code, for the record.
        show_progress: whether Lightning's progress bar is shown where the recipe does not say.
    """

    key: str
    seed: int
    recipe: dict[str, Any]
    scorings: dict[str, Scoring]
    folder: Path
    plugins: tuple[Path, ...] = ()
    checkpoint_seconds: float = 60.0
    code: str | None = None
    show_progress: bool = field(default=False, compare=False)

    def config(self) -> dict[str, Any]:
        """The recipe with this training's seed."""
        return {**self.recipe, "seed_everything": self.seed}

    def is_done(self) -> bool:
        """Return whether the training and all its scores are in the store."""
        return not RunFolder(self.folder).missing(self.scorings)


def row_changes(plan: Plan, row: Row) -> list[Change]:
    """Return what a row changes in the recipe that it is compared with; for that one itself, nothing."""
    if row.compared_to is None:
        return []
    return list(changes(plan.rows[row.compared_to].recipe, row.recipe))
