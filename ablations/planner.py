"""Makes the plan of a study: from the study to its rows, and from the rows to the trainings, each once.

This is where a study is refused: an edit that changes nothing, two tricks that set the same key, a trick for another
task, whatever LightningCLI's parser refuses. All problems are collected before anything trains.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ablations.environment import code_version
from ablations.errors import RecipeError, StudyError, UserError, did_you_mean
from ablations.keys import kept_weights, scoring_of, training_key
from ablations.parsing import resolve, resolve_edits
from ablations.plan import Plan, Row, Training
from ablations.recipe import Recipe, changes, is_component, overlaps
from ablations.registry import Trick, load_plugin, tricks
from ablations.sharing import find_trainings
from ablations.store import RunStore
from ablations.study import Study, TrickUse
from ablations.study_file import read_study
from ablations.yaml_file import read_mapping

WEIGHTS_FROM = {"ema": "ema", "swa": "swa", "best": "early_stopping", "snapshots": "snapshot_ensemble"}
"""The tricks that bring weights of these names along."""


@dataclass
class _Draft:
    """A row while it is made: a recipe, which trick set which path in it, and all that the user wrote to get there."""

    recipe: dict[str, Any]
    written: tuple[Any, ...]
    owners: dict[str, str] = field(default_factory=dict)

    def definition(self) -> str:
        """A hash of what the user wrote; unlike the recipe, it does not change with a library's defaults."""
        return hashlib.sha256(json.dumps(self.written, sort_keys=True, default=str).encode()).hexdigest()[:16]


def make_plan(study: Study) -> Plan:
    """Make the rows of a study and find the trainings that they need.

    Raises:
        StudyError: with every problem that was found.
    """
    return _Planner(study).plan()


class _Planner:
    def __init__(self, study: Study) -> None:
        self.study = study
        self.problems: list[str] = []
        for plugin in study.plugins:
            load_plugin(plugin)
        self.uses = self._known_tricks()

    def plan(self) -> Plan:
        base = self._base()
        if base is None:
            raise StudyError(*self.problems)
        rows = {"stack": self._stack, "leave-one-out": self._leave_one_out, "one-at-a-time": self._one_at_a_time}
        made = rows[self.study.mode](base)
        for row in made:
            self._check_weights(row)
            self._check_devices(row)
        if self.problems:
            raise StudyError(*dict.fromkeys(self.problems))
        return find_trainings(self.study, made)

    def _known_tricks(self) -> list[tuple[TrickUse, Trick]]:
        """Look the tricks up and note those that there are not, or that are for another task."""
        known, found = tricks(), []
        for use in self.study.tricks:
            trick = _inline_trick(use, self.study.task) if use.inline is not None else known.get(use.name)
            if trick is None:
                self._problem(
                    f"there is no trick {use.name!r}.{did_you_mean(use.name, known)} `ablate tricks` lists them."
                )
            elif self.study.task not in trick.tasks:
                tasks = " and ".join(sorted(trick.tasks))
                self._problem(f"the trick {use.name!r} is for {tasks}, not for {self.study.task}.")
            elif use.inline is not None and use.name in known:
                self._problem(f"the inline trick {use.name!r} has the name of a registered trick. Give it another.")
            else:
                found.append((use, trick))
        return found

    def _base(self) -> _Draft | None:
        try:
            written = read_mapping(self.study.base, "base recipe")
            resolved = resolve(written)
            recipe = Recipe(resolved)
            for path, value in self.study.settings.items():
                if path == "seed_everything":
                    raise RecipeError("'seed_everything' follows from the study's seeds; set these, or use --seeds.")
                recipe.set(path, value)
            return _Draft(resolve_edits(resolved, recipe.config), (written, self.study.settings))
        except StudyError as error:
            self.problems += error.problems
        except RecipeError as error:
            self._problem(f"base recipe {self.study.base}: {error}")
        return None

    def _problem(self, text: str) -> None:
        self.problems.append(f"{self.study.path}: {text}")

    def _apply(self, draft: _Draft, use: TrickUse, trick: Trick, where: str = "") -> _Draft:
        """Return the draft with a trick applied; on a problem, note it and return the draft as it was."""
        recipe = Recipe(draft.recipe)
        try:
            trick.apply(recipe, use.arguments)
            edited = resolve_edits(draft.recipe, recipe.config)
        except UserError as error:
            prefix = "" if isinstance(error, StudyError) else f"trick {use.name!r}: "
            self._problem(f"{where}{prefix}{error}")
            return draft
        made = list(changes(draft.recipe, edited))
        if not made:
            self._problem(f"{where}the trick {use.name!r} changes nothing: the recipe has it already. Drop it.")
            return draft
        owners = dict(draft.owners)
        for change in made:
            for path, owner in draft.owners.items():
                if overlaps(change.path, path) and not any(overlaps(change.path, revised) for revised in trick.revises):
                    self._problem(
                        f"{where}{use.name!r} and {owner!r} both set {change.path!r}, so their order would decide. "
                        f"Drop one, or declare revises=({change.path!r},) on {use.name!r}."
                    )
            owners[change.path] = use.name
        return _Draft(edited, (*draft.written, use.name, use.arguments, use.inline), owners)

    def _check_weights(self, row: Row) -> None:
        """Note a row that scores weights which nothing in it keeps."""
        name, kept = row.recipe["inference"]["weights"], kept_weights(row.recipe)
        if name not in kept:
            source = WEIGHTS_FROM.get(name)
            offer = f" The trick {source!r} brings them along." if source else f" There are: {', '.join(kept)}."
            self._problem(f"row {row.name!r} scores the weights {name!r}, which nothing in its recipe keeps.{offer}")

    def _check_devices(self, row: Row) -> None:
        """Note a row that asks for several processes, since a study gives each training one."""
        trainer = row.recipe["trainer"]
        asked = {"devices": ("1", "auto"), "num_nodes": ("1",), "strategy": ("auto",)}
        for name, allowed in asked.items():
            if str(trainer[name]) not in allowed:
                self._problem(
                    f"row {row.name!r}: trainer.{name} is {trainer[name]!r}, but a study trains each row in one "
                    f"process on one device. It must be {' or '.join(allowed)}."
                )

    def _stack(self, base: _Draft) -> list[Row]:
        rows, draft = [self._first_row(base, "base", "The base recipe, every trick off.")], base
        for use, trick in self.uses:
            draft = self._apply(draft, use, trick)
            rows.append(self._row(len(rows), f"+ {use.label}", use, trick, draft, len(rows) - 1))
        return rows

    def _one_at_a_time(self, base: _Draft) -> list[Row]:
        rows = [self._first_row(base, "base", "The base recipe, every trick off.")]
        for use, trick in self.uses:
            rows.append(self._row(len(rows), f"+ {use.label}", use, trick, self._apply(base, use, trick), 0))
        return rows

    def _leave_one_out(self, base: _Draft) -> list[Row]:
        prefixes = [base]
        for use, trick in self.uses:
            prefixes.append(self._apply(prefixes[-1], use, trick))
        full = prefixes[-1]
        rows = [self._first_row(full, "all tricks", "The base recipe with every trick of the study.")]
        for place, (use, trick) in enumerate(self.uses):
            draft = prefixes[place]
            for other, other_trick in self.uses[place + 1 :]:
                draft = self._apply(draft, other, other_trick, where=f"without {use.name!r}, ")
            if draft.recipe == full.recipe and not self.problems:
                self._problem(
                    f"without {use.name!r} the recipe is the same, since a later trick brings it along: leaving it out "
                    f"says nothing. Drop it from the study."
                )
            rows.append(self._row(len(rows), f"- {use.label}", use, trick, draft, 0, sign=-1))
        return rows

    def _first_row(self, draft: _Draft, name: str, text: str) -> Row:
        return Row(0, name, text, None, None, 1, self._seeded(draft), draft.definition())

    def _row(
        self, index: int, name: str, use: TrickUse, trick: Trick, draft: _Draft, compared_to: int, sign: int = 1
    ) -> Row:
        text = use.text or trick.text
        reference = self.study.reference
        published = reference.gains.get(use.name) if reference else None
        unconfirmed = bool(reference and use.name in reference.unconfirmed)
        text = f"Without: {text[:1].lower()}{text[1:]}" if sign < 0 else text
        return Row(
            index=index,
            name=name,
            text=text,
            trick=use.name,
            compared_to=compared_to,
            sign=sign,
            recipe=self._seeded(draft),
            definition=draft.definition(),
            published=published,
            unconfirmed=unconfirmed,
        )

    def _seeded(self, draft: _Draft) -> dict[str, Any]:
        return {**draft.recipe, "seed_everything": self.study.seeds[0]}


def _inline_trick(use: TrickUse, task: str) -> Trick:
    """Return the trick that a study defines by its verbs alone."""
    edits = use.inline or {}

    def edit(recipe: Recipe) -> None:
        for path, value in edits.get("set", {}).items():
            recipe.set(path, value)
        for verb in ("swap", "add"):
            for path, value in edits.get(verb, {}).items():
                if not is_component(value):
                    raise RecipeError(f"{verb} {path!r} needs a component, class_path and init_args, not {value!r}.")
                getattr(recipe, verb)(path, value["class_path"], **(value.get("init_args") or {}))
        for callback, arguments in edits.get("edit", {}).items():
            recipe.edit(callback, **arguments)

    verbs = ", ".join(f"{verb} {path}" for verb, paths in edits.items() for path in paths)
    return Trick(use.name, frozenset({task}), edit, "this study", use.text or f"{verbs}.".capitalize(), use.revises)


def load_plan(
    path: Path, seeds: int | None = None, mode: str | None = None, settings: dict[str, Any] | None = None
) -> Plan:
    """Read a study and make its plan.

    Args:
        path: the study's file.
        seeds: the number of seeds, instead of the study's.
        mode: how rows are made, instead of the study's.
        settings: values by path, set in the base recipe first.

    Raises:
        StudyError: with every problem that was found.
    """
    return make_plan(read_study(path).override(seeds=seeds, mode=mode, settings=settings or {}))


def plan_and_count_gpus(*arguments: Any) -> tuple[Plan, int]:
    """Return the plan of a study, as `load_plan` makes it, and the number of GPUs of this machine."""
    return load_plan(*arguments), torch.cuda.device_count()


def single_training(path: Path, settings: dict[str, Any], seed: int | None, store: RunStore) -> Training:
    """Return the training of one recipe file.

    Args:
        path: the recipe; it may name `plugins`, Python files to import first.
        settings: values by path, set in the recipe first.
        seed: instead of the recipe's own.
        store: where it will be stored.

    Raises:
        UserError: the file, or the recipe in it, is wrong.
    """
    data = read_mapping(path, "recipe")
    plugins = tuple(Path(plugin) for plugin in data.pop("plugins", None) or ())
    for plugin in plugins:
        load_plugin(plugin)
    try:
        resolved = resolve(data)
        recipe = Recipe(resolved)
        for key, value in settings.items():
            recipe.set(key, value)
        config = resolve_edits(resolved, recipe.config)
    except RecipeError as error:
        raise RecipeError(f"recipe {path}: {error}") from None
    key, chosen = training_key(config), config["seed_everything"] if seed is None else seed
    return Training(
        key=key,
        seed=chosen,
        recipe=config,
        scorings=dict([scoring_of(config)]),
        folder=store.folder(key, chosen).path,
        plugins=plugins,
        code=code_version(),
    )
