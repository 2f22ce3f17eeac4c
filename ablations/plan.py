"""What a study needs: its rows, and the trainings behind them, each once. Plain records, made by the planner."""

import functools
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablations.processes import Processes, processes_of
from ablations.recipe import Change, changes
from ablations.references import TRAINING, Need, parse_reference, references
from ablations.seeding import seeded
from ablations.store import RunFolder, RunStore
from ablations.study import Study
from ablations.tracking import Tracking

LR_FINDER = "callbacks.LRFinder"
"""The callback that searches a learning rate; a recipe that has it is not trained but searched."""


@dataclass(frozen=True)
class Scoring:
    """How a training is scored.

    Args:
        weights: the name under which the weights to score are stored.
        section: the recipe's `inference` section.
        members: references to what is combined, if it is an ensemble that is scored; the training itself comes first.
        group: how many consecutive seeds of each member the ensemble has.
    """

    weights: str
    section: dict[str, Any]
    members: tuple[str, ...] = ()
    group: int = 1

    def needs(self, seed: int) -> list[Need]:
        """Return the scores that must be there before that of an ensemble."""
        return [
            Need(key, seed + offset, name)
            for key, name in map(parse_reference, self.members)
            for offset in range(self.group)
        ]


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
        group: how many consecutive seeds make one score of it; more than one for an ensemble over seeds.
        search: the key of the search that found the row's learning rate, if its trick is a search.
        published: the published gain, if the study gives one.
        unconfirmed: whether nobody has read that gain in the source itself.
        tricks: the tricks that it has, in the study's order, in a mode that makes rows of sets of tricks.
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
    group: int = 1
    search: str = ""
    published: float | None = None
    unconfirmed: bool = False
    tricks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The rows of a study and the trainings that they need.

    Args:
        study: the study.
        rows: the lines of the table.
        recipes: by key of a training: the recipe to train, with all observers that any row needs.
        scorings: by key of a training: how it is scored, by name.
        searches: learning-rate searches that come first, since the keys of some rows follow from what they find.
        misfits: by index of a row: how it does not fit its data set, so that its training would fail.
    """

    study: Study
    rows: tuple[Row, ...]
    recipes: dict[str, dict[str, Any]]
    scorings: dict[str, dict[str, Scoring]]
    searches: tuple["Training", ...] = ()
    misfits: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def trainings(
        self,
        store: RunStore,
        rows: list[int] | None = None,
        code: str | None = None,
        only: Collection[tuple[int, int]] | None = None,
    ) -> list["Training"]:
        """Return the trainings of the given rows, or of all, those of one seed side by side.

        Each comes after those that it needs. The score of an ensemble is an entry of its own, since it needs others.

        Args:
            store: where they are, or will be.
            rows: the rows to train; all by default.
            code: the version of our own code, for the record.
            only: row and seed of each score that is wanted; all by default.
        """
        chosen = [row for row in self.rows if (rows is None or row.index in rows) and not is_search(row.recipe)]
        names: dict[tuple[str, int, str], set[str]] = {}
        leaders = {row.group: set(group_leaders(self.study.seeds, row.group)) for row in chosen}
        for seed in self.study.seeds:
            for row in chosen:
                if seed in leaders[row.group] and (only is None or (row.index, seed) in only):
                    self._collect(Need(row.key, seed, row.inference), names)
        return [
            Training(
                key=key,
                seed=seed,
                recipe=self.recipes[key],
                scorings={name: how for name, how in self.scorings[key].items() if name in names[key, seed, ensemble]},
                folder=store.folder(key, seed).path,
                plugins=self.study.plugins,
                code=code,
                needs=tuple(self._needs(key, seed, ensemble)),
                with_pictures=seed == min(self.study.seeds),
            )
            for key, seed, ensemble in names
        ]

    def trainings_behind(self, row: Row) -> list[tuple[str, int]]:
        """Return every training that a row needs, as key and distance from the row's seed; its own is among them."""
        names: dict[tuple[str, int, str], set[str]] = {}
        self._collect(Need(row.key, 0, row.inference), names)
        return list(dict.fromkeys((key, seed) for key, seed, _ in names))

    def networks_behind(self, row: Row) -> list[tuple[str, int]]:
        """Return the trainings whose networks predict for a row: its own or, for an ensemble, those of its members."""
        needs = self.scorings[row.key][row.inference].needs(0)
        return list(dict.fromkeys((need.key, need.seed) for need in needs)) or [(row.key, 0)]

    def _collect(self, wanted: Need, names: dict[tuple[str, int, str], set[str]]) -> None:
        """Add an entry to what is to be done, after all that it needs."""
        ensemble = wanted.inference if self.scorings[wanted.key][wanted.inference].members else ""
        for need in self._needs(wanted.key, wanted.seed, ensemble):
            self._collect(need, names)
        names.setdefault((wanted.key, wanted.seed, ensemble), set()).add(wanted.inference)

    def _needs(self, key: str, seed: int, ensemble: str) -> list[Need]:
        if ensemble:
            return self.scorings[key][ensemble].needs(seed)
        return [replace(need, seed=seed) for need in self._needs_of_recipes[key]]

    @functools.cached_property
    def _needs_of_recipes(self) -> dict[str, list[Need]]:
        return {key: recipe_needs(recipe, 0) for key, recipe in self.recipes.items()}


def recipe_needs(recipe: dict[str, Any], seed: int) -> list[Need]:
    """Return the scores of other trainings that must be there before a recipe is trained."""
    trained = [recipe[section] for section in ("trainer", "model", "data")]
    return [Need(key, seed, name) for key, name in map(parse_reference, references(trained, TRAINING))]


def group_leaders(seeds: Iterable[int], group: int) -> list[int]:
    """Return the first seeds of disjoint groups of consecutive seeds; those that fill no group are left out."""
    leaders: list[int] = []
    left = sorted(seeds)
    while left:
        first = left[0]
        wanted = list(range(first, first + group))
        if left[:group] == wanted:
            leaders.append(first)
            left = left[group:]
        else:
            left = left[1:]
    return leaders


def is_search(recipe: dict[str, Any]) -> bool:
    """Return whether a recipe searches a learning rate, which its training will have."""
    callbacks = recipe["trainer"].get("callbacks") or []
    return any(callback["class_path"] == LR_FINDER for callback in callbacks)


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
        needs: scores of other trainings that must be in the store first.
        tracking: how it shows up in W&B; `None` if it does not.
        with_pictures: whether pictures of the task are kept beside its scores.
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
    needs: tuple[Need, ...] = ()
    tracking: Tracking | None = field(default=None, compare=False)
    with_pictures: bool = field(default=False, compare=False)

    @property
    def store(self) -> Path:
        """The folder that holds the folders of all trainings."""
        return self.folder.parent.parent

    def config(self) -> dict[str, Any]:
        """The recipe with this training's seed."""
        return seeded(self.recipe, self.seed)

    def is_done(self) -> bool:
        """Return whether the training and all its scores are in the store."""
        folder = RunFolder(self.folder)
        return folder.result() is not None and not folder.missing(self.scorings)

    @property
    def processes(self) -> Processes:
        """The processes that it takes; an ensemble takes one."""
        return Processes() if self.is_ensemble else processes_of(self.recipe["trainer"])

    @property
    def is_ensemble(self) -> bool:
        """Whether nothing is trained: what other trainings left behind is combined and scored."""
        return any(scoring.members for scoring in self.scorings.values())


def row_changes(plan: Plan, row: Row) -> list[Change]:
    """Return what a row changes in the recipe that it is compared with; for that one itself, nothing."""
    if row.compared_to is None:
        return []
    return list(changes(plan.rows[row.compared_to].recipe, row.recipe))
