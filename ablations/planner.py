"""Makes the plan of a study: from the study to its rows, and from the rows to the trainings, each once.

This is where a study is refused: an edit that changes nothing, two tricks that set the same key, a trick for another
task, whatever LightningCLI's parser refuses. All problems are collected before anything trains.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ablations.component_problems import component_problems
from ablations.data_problems import data_problems
from ablations.environment import code_version
from ablations.errors import RecipeError, StudyError, UserError, did_you_mean
from ablations.keys import kept_weights, scorings_of, training_key
from ablations.lr_search import RATE, with_found_rate
from ablations.modes import Draft, RowMaker
from ablations.parsing import resolve, resolve_edits
from ablations.plan import Plan, Row, Training, is_search, recipe_needs
from ablations.processes import process_problems
from ablations.recipe import Recipe, changes, is_component, overlaps
from ablations.registry import Trick, load_plugin, tricks
from ablations.seeding import varying
from ablations.sharing import find_trainings
from ablations.store import RunStore
from ablations.study import Study, TrickUse
from ablations.study_file import read_study
from ablations.yaml_file import read_mapping

WEIGHTS_FROM = {
    "ema": "ema",
    "swa": "swa",
    "best": "early_stopping",
    "snapshots": "snapshot_ensemble",
    "teacher": "mean_teacher",
}
"""The tricks that bring weights of these names along."""


def make_plan(study: Study, store: RunStore) -> Plan:
    """Make the rows of a study and find the trainings that they need.

    Args:
        study: the study.
        store: where the results of learning-rate searches are looked up.

    Raises:
        StudyError: with every problem that was found.
    """
    return _Planner(study, store).plan()


class _Planner:
    def __init__(self, study: Study, store: RunStore) -> None:
        self.study = study
        self.store = store
        self.searches: dict[str, Training] = {}
        self.problems: list[str] = []
        for plugin in study.plugins:
            load_plugin(plugin)
        self.uses = self._known_tricks()

    def plan(self, more: tuple[str, ...] | None = None) -> Plan:
        base = self._base()
        if base is None:
            raise StudyError(*self.problems)
        maker = RowMaker(self.study, self.uses, self._apply, self._problem, self.problems)
        made = maker.rows(base)
        if more is not None and not self.problems:
            made.append(replace(maker.subset_row(len(made), base, more), name="best", trick=None))
        self._check_rows(made)
        if self.problems:
            raise StudyError(*dict.fromkeys(self.problems))
        misfits = {row.index: problems for row in made if (problems := data_problems(row.recipe, self.study.seeds))}
        return replace(find_trainings(self.study, made), searches=tuple(self.searches.values()), misfits=misfits)

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

    def _base(self) -> Draft | None:
        try:
            written = read_mapping(self.study.base, "base recipe")
            resolved = resolve(written)
            recipe = Recipe(resolved)
            for path, value in self.study.settings.items():
                if path == "seed_everything":
                    raise RecipeError("'seed_everything' follows from the study's seeds; set these, or use --seeds.")
                recipe.set(path, value)
            config = varying(resolve_edits(resolved, recipe.config), self.study.vary)
            vary = (self.study.vary,) if "vary" in config else ()
            return Draft(config, (written, self.study.settings, *vary))
        except StudyError as error:
            self.problems += error.problems
        except RecipeError as error:
            self._problem(f"base recipe {self.study.base}: {error}")
        return None

    def _problem(self, text: str) -> None:
        self.problems.append(f"{self.study.path}: {text}")

    def _apply(self, draft: Draft, use: TrickUse, trick: Trick, where: str = "") -> Draft:
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
        written = (*draft.written, use.name, use.arguments, use.inline)
        applied = Draft(edited, written, owners)
        return applied if is_search(draft.recipe) else self._with_found_rate(applied, use)

    def _with_found_rate(self, draft: Draft, use: TrickUse) -> Draft:
        """Return the draft with the rate that its search found; if that is yet to be run, note it and leave it in."""
        if not is_search(draft.recipe):
            return draft
        seed = self.study.seeds[0]
        draft.owners[RATE] = use.name
        try:
            key = training_key(draft.recipe)
            found = with_found_rate(draft.recipe, self.store.folder(key, seed))
        except RecipeError as error:
            self._problem(f"trick {use.name!r}: {error}")
            return draft
        if found is not None:
            return replace(draft, recipe=found, search=key)
        folder = self.store.folder(key, seed).path
        self.searches[key] = Training(key, seed, draft.recipe, {}, folder, self.study.plugins, code=code_version())
        return draft

    def _check_rows(self, rows: list[Row]) -> None:
        """Note what is wrong with rows as they stand, each thing for the first row that has it: others inherit it."""
        first: dict[str, str] = {}
        for row in rows:
            for problem in (
                *_weights_problems(row),
                *process_problems(row.recipe["trainer"]),
                *component_problems(row.recipe),
            ):
                first.setdefault(problem, row.name)
        for problem, name in first.items():
            self._problem(f"row {name!r}: {problem}")


def _weights_problems(row: Row) -> Iterator[str]:
    """Say that a row scores weights which nothing in it keeps."""
    name, kept = row.recipe["inference"]["weights"], kept_weights(row.recipe)
    if name not in kept:
        source = WEIGHTS_FROM.get(name)
        offer = f" The trick {source!r} brings them along." if source else f" There are: {', '.join(kept)}."
        yield f"it scores the weights {name!r}, which nothing in its recipe keeps.{offer}"


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
    path: Path,
    seeds: int | None = None,
    mode: str | None = None,
    settings: dict[str, Any] | None = None,
    store: RunStore = RunStore(Path("results/runs")),  # noqa: B008 (frozen)
) -> Plan:
    """Read a study and make its plan.

    Args:
        path: the study's file.
        seeds: the number of seeds, instead of the study's.
        mode: how rows are made, instead of the study's.
        settings: values by path, set in the base recipe first.
        store: where the results of learning-rate searches are looked up.

    Raises:
        StudyError: with every problem that was found.
    """
    return make_plan(read_study(path).override(seeds=seeds, mode=mode, settings=settings or {}), store)


def plan_with_best(study: Study, store: RunStore, chosen: tuple[str, ...]) -> Plan:
    """Make the plan of a study with one more row at its end, the base with some of the study's tricks.

    Args:
        study: the study.
        store: where the results of learning-rate searches are looked up.
        chosen: the tricks, in the study's order; none for the base itself.

    Raises:
        StudyError: the tricks do not go together without the others, or the study has another problem.
    """
    return _Planner(study, store).plan(chosen)


def plan_and_count_gpus(*arguments: Any) -> tuple[Plan, int]:
    """Return the plan of a study, as `load_plan` makes it, and the number of GPUs of this machine."""
    return load_plan(*arguments), torch.cuda.device_count()


def single_training(path: Path, settings: dict[str, Any], seed: int | None, store: RunStore) -> Training:
    """Return the training of one recipe file, scored by itself; or the search that comes before it.

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
        if problems := [*process_problems(config["trainer"]), *component_problems(config)]:
            raise RecipeError(" ".join(problems))
    except RecipeError as error:
        raise RecipeError(f"recipe {path}: {error}") from None
    chosen = config["seed_everything"] if seed is None else seed
    key = training_key(config)
    if is_search(config):
        found = with_found_rate(config, store.folder(key, chosen))
        if found is None:
            return Training(key, chosen, config, {}, store.folder(key, chosen).path, plugins, code=code_version())
        config, key = found, training_key(found)
    scorings = scorings_of(config, key)
    return Training(
        key=key,
        seed=chosen,
        recipe=config,
        scorings={name: how for name, how in scorings.items() if not how.members},
        folder=store.folder(key, chosen).path,
        plugins=plugins,
        code=code_version(),
        needs=tuple(recipe_needs(config, chosen)),
        with_pictures=True,
    )


def with_ensemble(training: Training) -> list[Training]:
    """Return a training, those of the further seeds that an ensemble in its recipe takes, and the ensemble's score."""
    if is_search(training.recipe):
        return [training]
    ways = scorings_of(training.recipe, training.key)
    ensembles = {name: how for name, how in ways.items() if how.members}
    group = max((how.group for how in ensembles.values()), default=1)
    store = RunStore(training.store)
    seeds = range(training.seed, training.seed + group)
    trainings = [
        replace(
            training,
            seed=seed,
            folder=store.folder(training.key, seed).path,
            needs=tuple(recipe_needs(training.recipe, seed)),
        )
        for seed in seeds
    ]
    for name, how in ensembles.items():
        trainings.append(replace(training, scorings={name: how}, needs=tuple(how.needs(training.seed))))
    return trainings
