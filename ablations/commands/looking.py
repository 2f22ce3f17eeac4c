"""The verbs that look: at the tricks, at the plan of a study, at one of its rows."""

import argparse
from collections.abc import Sequence
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from ablations.commands.arguments import chosen_rows, existing_rows, make_plan, misfits, run_store
from ablations.commands.console import err, out
from ablations.errors import UserError
from ablations.executors import default_jobs, most_devices
from ablations.plan import Plan, Training, is_search, row_changes
from ablations.progress import duration
from ablations.registry import TASKS, tricks
from ablations.store import RunFolder


def tricks_command(options: argparse.Namespace) -> int:
    """List the tricks."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("trick", "tasks", "what it does", "source"):
        table.add_column(column, overflow="fold", no_wrap=column == "trick")
    for name, trick in sorted(tricks().items()):
        if options.task is None or options.task in trick.tasks:
            letters = "".join(task[0].upper() for task in TASKS if task in trick.tasks)
            table.add_row(*(Text(text) for text in (name, letters, trick.text, trick.source)))
    out.print(table)
    return 0


def plan_command(options: argparse.Namespace) -> int:
    """Print the rows of a study and the trainings that it needs, without training."""
    plan, gpus = make_plan(options)
    trainings = plan.trainings(run_store(options), chosen_rows(plan, options.rows))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("#", "row", "trainings", "done", "what it adds"):
        table.add_column(column, overflow="fold", justify="right" if column in ("#", "done") else "left")
    done = [training for training in trainings if training.is_done()]
    first: dict[str, int] = {}
    for row in plan.rows:
        shared = first.setdefault(row.key, row.index)
        count = sum(training.key == row.key for training in done)
        seeds = len(plan.study.seeds)
        where = f"those of row {shared}" if shared != row.index else f"{row.key}"
        where = "after a search" if is_search(row.recipe) else where
        table.add_row(*(Text(text) for text in (str(row.index), row.name, where, f"{count}/{seeds}", row.text)))
    out.print(table)
    out.print(
        _plan_sentence(plan, trainings, done, options.jobs or default_jobs(gpus, most_devices(trainings))),
        highlight=False,
    )
    for problem in misfits(plan, chosen_rows(plan, options.rows)):
        err.print(f"`ablate run` will refuse this study: {problem}", soft_wrap=True, highlight=False, markup=False)
    return 0


def show_command(options: argparse.Namespace) -> int:
    """Print what a row changes in the recipe of the row that it is compared with."""
    plan, _ = make_plan(options)
    rows = chosen_rows(plan, [options.row]) or []
    if len(rows) != 1:
        raise UserError(f"show takes one row, a number or a trick, not {options.row!r}. {existing_rows(plan.rows)}")
    row = plan.rows[rows[0]]
    out.print(f"row {row.index}: {row.name}. {row.text}", markup=False, highlight=False, soft_wrap=True)
    if row.compared_to is None:
        out.print("The other rows are compared with this one; its recipe is:")
        out.print(yaml.safe_dump(row.recipe, sort_keys=False), markup=False, highlight=False, soft_wrap=True)
        return 0
    other = plan.rows[row.compared_to]
    out.print(f"changes from row {other.index} ({other.name}):", markup=False, highlight=False)
    for change in row_changes(plan, row):
        out.print(f"  {change}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _plan_sentence(plan: Plan, trainings: list[Training], done: list[Training], jobs: int) -> str:
    seeds, rows = len(plan.study.seeds), len(plan.rows)
    trainings = [training for training in trainings if not training.is_ensemble]
    done = [training for training in done if not training.is_ensemble]
    text = f"{rows} row{_s(rows)} x {seeds} seed{_s(seeds)} = {len(trainings)} training{_s(len(trainings))}"
    if len(trainings) < rows * seeds:
        text += f" instead of {rows * seeds}"
    left = len(trainings) - len(done)
    if plan.searches:
        text += f" and those of the rows that wait for {len(plan.searches)} learning-rate search{_es(plan.searches)}"
    text += f"; {len(done)} done, {left} to do"
    if left and done:
        seconds = [(RunFolder(training.folder).result() or {}).get("seconds", 0.0) for training in done]
        text += f", about {duration(sum(seconds) / len(seconds) * left / jobs)} with {jobs} at a time"
    elif left:
        text += "; how long that takes is known when the first is done"
    return text + "."


def _es(things: Sequence[Any]) -> str:
    return "" if len(things) == 1 else "es"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
