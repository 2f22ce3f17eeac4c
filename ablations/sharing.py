"""Which trainings the rows of a study need: rows that differ only in observers or inference share theirs."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ablations.errors import StudyError, did_you_mean
from ablations.keys import observes_only, scorings_of, training_key
from ablations.plan import Plan, Row, Scoring, group_leaders
from ablations.recipe import Recipe, arguments_of
from ablations.references import ROW, reference_to, references, replace_references
from ablations.study import Study


def find_trainings(study: Study, rows: list[Row]) -> Plan:
    """Find the trainings of the rows: rows that differ only in observers or inference share one.

    Raises:
        StudyError: a row builds on a row that is not there, or on itself by way of others.
    """
    finished: dict[int, Row] = {}
    recipes: dict[str, dict[str, Any]] = {}
    scorings: dict[str, dict[str, Scoring]] = {}
    for row in _in_order_of_need(rows):
        recipe = _with_teachers_network(row.recipe, rows)
        recipe = replace_references(recipe, ROW, lambda text: _reference(text, rows, finished))
        key = training_key(recipe)
        if key in recipes and _observers_collide(recipes[key], recipe):
            key = hashlib.sha256(f"{key}{json.dumps(recipe['trainer']['callbacks'])}".encode()).hexdigest()[:16]
        ways = scorings_of(recipe, key)
        name, scoring = list(ways.items())[-1]
        if len(set(scoring.members)) < len(scoring.members):
            raise StudyError(f"row {row.name!r} has a member twice; its own network is one already, without a name.")
        if scoring.group > 1 and "split" in study.vary:
            raise StudyError(
                f"row {row.name!r} puts networks of several seeds together, and with 'split' in 'vary' each seed has "
                f"other test images: a network would be tested on what another was trained on. Drop one of the two."
            )
        if not group_leaders(study.seeds, scoring.group):
            raise StudyError(
                f"row {row.name!r} makes each score out of {scoring.group} consecutive seeds, but the study has the "
                f"seeds {', '.join(map(str, study.seeds))}. Give it at least {scoring.group}, or take fewer members."
            )
        finished[row.index] = replace(row, recipe=recipe, key=key, inference=name, group=scoring.group)
        recipes[key] = _with_observers(recipes.get(key, recipe), recipe)
        scorings.setdefault(key, {}).update(ways)
    return Plan(study, tuple(finished[row.index] for row in rows), recipes, scorings)


def _in_order_of_need(rows: list[Row]) -> Iterator[Row]:
    """Yield each row after the rows that its recipe names."""
    problems = [
        f"row {row.name!r} builds on {text.removeprefix(ROW)!r}, which is no row of the study."
        + did_you_mean(text.removeprefix(ROW), _names(rows))
        for row in rows
        for text in references(row.recipe, ROW)
        if text.removeprefix(ROW) not in _names(rows)
    ]
    if problems:
        raise StudyError(*dict.fromkeys(f"{problem} There are: {', '.join(_names(rows))}." for problem in problems))
    needs = {row.index: {_named(text, rows).index for text in references(row.recipe, ROW)} for row in rows}
    done: set[int] = set()
    left = list(rows)
    while left:
        ready = next((row for row in left if needs[row.index] <= done), None)
        if ready is None:
            names = " and ".join(repr(row.name) for row in left)
            raise StudyError(f"the rows {names} build on each other, so none of them can be trained first.")
        yield ready
        done.add(ready.index)
        left = [row for row in left if row is not ready]


def _with_teachers_network(recipe: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    """Return a recipe in which a teacher that is another row has the network of that row, unless it has one already."""
    distillation = arguments_of(recipe["model"]).get("distillation")
    if not distillation or not distillation["init_args"]["teacher_weights"].startswith(ROW):
        return recipe
    arguments, own = distillation["init_args"], recipe["model"]["init_args"]["network"]
    if arguments["network"] != own:
        return recipe
    teacher = _named(arguments["teacher_weights"], rows).recipe["model"]["init_args"]["network"]
    edited = Recipe(recipe)
    edited.config["model"]["init_args"]["distillation"]["init_args"]["network"] = teacher
    return edited.config


def _names(rows: list[Row]) -> dict[str, Row]:
    """Return the rows by their names and by their tricks; the first row is also called `base`."""
    return {name: row for row in rows for name in ("base" if row.index == 0 else row.trick, row.name) if name}


def _named(text: str, rows: list[Row]) -> Row:
    return _names(rows)[text.removeprefix(ROW)]


def _reference(text: str, rows: list[Row], finished: dict[int, Row]) -> str:
    row = finished[_named(text, rows).index]
    if row.recipe["inference"]["ensemble"]:
        raise StudyError(f"a row builds on {row.name!r}, which is an ensemble itself. Name the rows it is made of.")
    return reference_to(row.key, row.inference)


def _observers_collide(recipe: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two recipes have an observer of one class with other arguments; Lightning would refuse both."""
    mine, theirs = (
        {callback["class_path"]: callback for callback in item["trainer"].get("callbacks") or []}
        for item in (recipe, other)
    )
    both = mine.keys() & theirs.keys()
    return any(observes_only(mine[path]) and mine[path] != theirs[path] for path in both)


def _with_observers(recipe: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return `recipe` with the observers of `other` that it lacks."""
    callbacks = list(recipe["trainer"].get("callbacks") or [])
    missing = [
        callback
        for callback in other["trainer"].get("callbacks") or []
        if observes_only(callback) and callback not in callbacks
    ]
    return {**recipe, "trainer": {**recipe["trainer"], "callbacks": callbacks + missing}}
