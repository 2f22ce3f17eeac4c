"""Which trainings the rows of a study need: rows that differ only in observers or inference share theirs."""

import hashlib
import json
from dataclasses import replace
from typing import Any

from ablations.keys import observes_only, scoring_of, training_key
from ablations.plan import Plan, Row, Scoring
from ablations.study import Study


def find_trainings(study: Study, rows: list[Row]) -> Plan:
    """Find the trainings of the rows: rows that differ only in observers or inference share one."""
    finished: list[Row] = []
    recipes: dict[str, dict[str, Any]] = {}
    scorings: dict[str, dict[str, Scoring]] = {}
    for row in rows:
        key = training_key(row.recipe)
        name, scoring = scoring_of(row.recipe)
        if key in recipes and _observers_collide(recipes[key], row.recipe):
            key = hashlib.sha256(f"{key}{json.dumps(row.recipe['trainer']['callbacks'])}".encode()).hexdigest()[:16]
        finished.append(replace(row, key=key, inference=name))
        recipes[key] = _with_observers(recipes.get(key, row.recipe), row.recipe)
        scorings.setdefault(key, {})[name] = scoring
    return Plan(study, tuple(finished), recipes, scorings)


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
