"""Under which name, group and tags a training is found in W&B. Plain records; the client is not imported here."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.errors import UserError

if TYPE_CHECKING:
    from ablations.plan import Plan, Row, Training

TAG_LENGTH = 64
"""Characters of the longest tag that W&B takes."""


@dataclass(frozen=True)
class Tracking:
    """How one training shows up in W&B.

    Args:
        project: the project, or `team/project`.
        name: what the run is called.
        study: the study, which groups the runs; empty for a recipe that is trained alone.
        rows: the names of all rows that use the training.
        tags: these rows by number, and the tricks in them.
        inference: the inference setting whose score stands as `test/...` in the run's summary.
        offline: whether to write to the disk alone; `wandb sync` sends it later. W&B's own setting decides by default.
    """

    project: str
    name: str
    study: str = ""
    rows: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    inference: str = ""
    offline: bool = False


def check_project(project: str) -> str:
    """Return the name of a W&B project as it is.

    Raises:
        UserError: W&B would refuse it.
    """
    if not re.fullmatch(r"([^/\\#?%:\s]{1,128}/)?(?!\s)[^/\\#?%:]{1,128}(?<!\s)", project):
        raise UserError(
            f"the W&B project {project!r} cannot be: write PROJECT or TEAM/PROJECT, without any of / \\ # ? % : in the "
            f"name or spaces around it, and at most 128 characters long."
        )
    return project


def track_study(plan: "Plan", trainings: Iterable["Training"], project: str, offline: bool) -> list["Training"]:
    """Return the trainings of a study with how they show up in W&B; one that several rows use names them all."""
    return [replace(training, tracking=_of_study(plan, training, project, offline)) for training in trainings]


def track_recipe(training: "Training", path: Path, project: str, offline: bool) -> "Training":
    """Return the training of a single recipe file with how it shows up in W&B."""
    name = f"{path.stem} / seed {training.seed}"
    first = next((name for name, scoring in training.scorings.items() if not scoring.members), "")
    return replace(training, tracking=Tracking(project, name, inference=first, offline=offline))


def _of_study(plan: "Plan", training: "Training", project: str, offline: bool) -> Tracking:
    users = [row for row in plan.rows if row.key == training.key]
    names = tuple(f"{row.index:02d} {row.name}" for row in users)
    tricks = dict.fromkeys(trick for row in users for trick in _tricks_of(plan, row))
    tags = [*(f"row {row.index:02d}" for row in users), *tricks]
    return Tracking(
        project,
        f"{names[0] if names else training.key} / seed {training.seed}",
        study=plan.study.name,
        rows=names,
        tags=tuple(tag[:TAG_LENGTH] for tag in tags),
        inference=users[0].inference if users else "last",
        offline=offline,
    )


def _tricks_of(plan: "Plan", row: "Row") -> list[str]:
    """Return the tricks that are on in a row."""
    if row.tricks:
        return list(row.tricks)
    if plan.study.mode == "stack":
        return [other.trick for other in plan.rows[: row.index + 1] if other.trick]
    if plan.study.mode == "leave-one-out":
        return [use.name for use in plan.study.tricks if use.name != row.trick]
    return [row.trick] if row.trick else []
