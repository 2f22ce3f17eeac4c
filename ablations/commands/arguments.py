"""What several verbs make of their arguments: the plan, folders, rows, settings."""

import argparse
import contextlib
from pathlib import Path
from typing import Any

import yaml

from ablations import workers
from ablations.commands.console import err
from ablations.errors import StoreError, StudyError, UserError, did_you_mean
from ablations.plan import Plan, Row
from ablations.results import read_study_record, study_folder
from ablations.store import RunStore
from ablations.study import MODES
from ablations.study_file import find_study, read_study
from ablations.yaml_file import load_yaml


def make_plan(options: argparse.Namespace) -> tuple[Plan, int]:
    """Make the plan in a worker, so that this process need not import torch; return it with the number of GPUs."""
    path = find_study(options.study)
    read_study(path).override(seeds=options.seeds, mode=options.mode, settings={})  # what is wrong is said at once
    if getattr(options, "jobs", None) is not None and options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: at least one training must run at a time.")
    seeds = options.seeds if getattr(options, "max_seeds", None) is None else options.max_seeds
    arguments = (path, seeds, options.mode, read_settings(options.set), run_store(options))
    with err.status("Making the plan") if err.is_terminal else contextlib.nullcontext():
        return workers.call(_plan_and_count_gpus, *arguments)


def _plan_and_count_gpus(*arguments: Any) -> tuple[Plan, int]:
    from ablations.planner import plan_and_count_gpus  # in the worker alone: it imports torch and Lightning

    return plan_and_count_gpus(*arguments)


def plan_folder(options: argparse.Namespace, plan: Plan) -> Path:
    return study_folder(options.results, plan, read_study(plan.study.path).mode)


def stored_folder(options: argparse.Namespace) -> Path:
    """The results folder of a study that ran, also where its file is not there any more.

    Raises:
        StoreError: it has not run yet, or its record is damaged.
    """
    try:
        study = read_study(find_study(options.study))
        name, own_mode = study.name, study.mode
    except StudyError:
        if not (options.results / options.study / "study.json").is_file():
            raise
        name, own_mode = options.study, options.mode or MODES[0]
    other_mode = options.mode if options.mode and options.mode != own_mode else ""
    folder: Path = options.results / name / other_mode
    if read_study_record(folder) is None:
        mode = f" --mode {other_mode}" if other_mode else ""
        raise StoreError(f"{folder} holds no study yet. Run it first: ablate run {options.study}{mode}.")
    return folder


def run_store(options: argparse.Namespace) -> RunStore:
    return RunStore(options.results / "runs")


def chosen_rows(plan: Plan, chosen: list[str] | None) -> list[int] | None:
    """Return the indices that `--rows` names: numbers, ranges like 0-3, or tricks."""
    if chosen is None:
        return None
    by_name = {name: row.index for row in plan.rows for name in (row.trick, row.name) if name}
    rows: list[int] = []
    for name in chosen:
        first, dash, last = name.partition("-")
        if name in by_name:
            rows.append(by_name[name])
        elif first.isdigit() and (last.isdigit() if dash else True):
            if int(last or first) < int(first):
                raise UserError(f"the range of rows {name!r} is empty; write the smaller number first: {last}-{first}.")
            rows += range(int(first), int(last or first) + 1)
        else:
            raise UserError(f"there is no row {name!r}. {existing_rows(plan.rows)}{did_you_mean(name, by_name)}")
    if missing := [row for row in rows if row >= len(plan.rows)]:
        raise UserError(f"there is no row {missing[0]}. {existing_rows(plan.rows)}")
    return rows


def misfits(plan: Plan, chosen: list[int] | None) -> list[str]:
    """Return how the chosen rows, or all, do not fit their data sets, each way once, for the first row that has it."""
    first: dict[str, str] = {}
    for row in plan.rows:
        if chosen is None or row.index in chosen:
            for problem in plan.misfits.get(row.index, ()):
                first.setdefault(problem, row.name)
    return [f"row {name!r}: {problem}" for problem, name in first.items()]


def existing_rows(rows: tuple[Row, ...]) -> str:
    return f"The study has rows 0 to {len(rows) - 1}: {', '.join(row.trick or row.name for row in rows)}."


def read_settings(pairs: list[str]) -> dict[str, Any]:
    settings = {}
    for pair in pairs:
        path, equals, value = pair.partition("=")
        if not equals or not path:
            raise UserError(f"--set takes key=value, for example trainer.max_epochs=20, not {pair!r}.")
        try:
            settings[path] = load_yaml(value)
        except yaml.YAMLError:
            raise UserError(f"--set {path}: {value!r} is not a YAML value.") from None
    return settings
