"""What the verbs of the command line do."""

import argparse
import contextlib
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablations import workers
from ablations.environment import code_version, library_versions, processor_name
from ablations.errors import StudyError, UserError, did_you_mean
from ablations.executors import Event, default_jobs, run_inline, run_local
from ablations.plan import Plan, Row, Training, row_changes
from ablations.progress import StudyProgress, duration
from ablations.registry import TASKS, tricks
from ablations.results import check_unchanged, gather, study_folder, write_study
from ablations.store import RunFolder, RunStore, make_writable
from ablations.study import MODES
from ablations.study_file import find_study, read_study
from ablations.yaml_file import load_yaml

PIPED_WIDTH = 110
"""Columns where nobody looks: a pipe or a file has no width of its own."""


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=PIPED_WIDTH)


out = _console(stderr=False)
err = _console(stderr=True)


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
    plan, gpus = _plan(options)
    trainings = plan.trainings(_store(options), _chosen_rows(plan, options.rows))
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
        table.add_row(*(Text(text) for text in (str(row.index), row.name, where, f"{count}/{seeds}", row.text)))
    out.print(table)
    out.print(_plan_sentence(plan, trainings, done, options.jobs or default_jobs(gpus)), highlight=False)
    return 0


def run_command(options: argparse.Namespace) -> int:
    """Train what a study still needs, and print its table."""
    from ablations.table import to_rich, write_table  # imports pandas, which a plan is spared

    plan, gpus = _plan(options)
    rows = _chosen_rows(plan, options.rows)
    folder = _folder(options, plan)
    store = _store(options)
    make_writable(folder)
    make_writable(store.path)
    if not options.replace:
        check_unchanged(folder, plan)
    write_study(folder, plan, store, _head(options))
    trainings = plan.trainings(store, rows, code_version())
    waiting = [training for training in trainings if not training.is_done()]
    _say_corrupt(trainings)
    err.print(f"{len(trainings) - len(waiting)} of {len(trainings)} trainings are in {store.path} already.")
    jobs = options.jobs or default_jobs(gpus)
    events = run_inline(waiting, jobs) if options.executor == "inline" else run_local(waiting, jobs, gpus)
    progress = StudyProgress(plan, trainings, waiting, err)
    try:
        _follow(events, progress)
    finally:
        gather(folder, store)
        table = write_table(folder)
    out.print(to_rich(table))
    err.print(f"The table is in {folder / 'table.md'}, its scores are in {folder / 'scores.csv'}.", soft_wrap=True)
    return 1 if progress.failures else 0


def show_command(options: argparse.Namespace) -> int:
    """Print what a row changes in the recipe of the row that it is compared with."""
    plan, _ = _plan(options)
    rows = _chosen_rows(plan, [options.row]) or []
    if len(rows) != 1:
        raise UserError(f"show takes one row, a number or a trick, not {options.row!r}. {_existing(plan.rows)}")
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


def table_command(options: argparse.Namespace) -> int:
    """Gather the scores of a study from the store again, and print its table."""
    from ablations.table import to_rich, write_table  # imports pandas, which a plan is spared

    try:
        study = read_study(find_study(options.study))
        name, own_mode = study.name, study.mode
    except StudyError:
        if not (options.results / options.study / "study.json").is_file():
            raise
        name, own_mode = options.study, options.mode or MODES[0]
    folder = options.results / name
    if options.mode and options.mode != own_mode:
        folder = folder / options.mode
    gather(folder, _store(options))
    out.print(to_rich(write_table(folder)))
    return 0


def fit_command(options: argparse.Namespace) -> int:
    """Train one recipe in this process and print its scores."""
    from ablations.planner import single_training  # imports torch and Lightning
    from ablations.training import run_and_record

    training = single_training(options.recipe, _settings(options.set), options.seed, _store(options))
    training = replace(training, show_progress=err.is_terminal)
    make_writable(training.folder)
    folder = RunFolder(training.folder)
    if training.is_done():
        err.print(f"This training is done already; its scores are in {folder.path}.", soft_wrap=True)
    else:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # Lightning's progress bar; the scores are the output
                run_and_record(training)
        except SystemExit:
            err.print(f"The training failed: {folder.status().get('reason')}", style="red", markup=False)
            return 1
    for name in training.scorings:
        for metric, value in (folder.score(name) or {}).items():
            out.print(f"{metric}: {value:.4f}", highlight=False)
    err.print(f"Recipe, weights, learning curve and scores are in {folder.path}.", soft_wrap=True)
    return 0


def _plan(options: argparse.Namespace) -> tuple[Plan, int]:
    """Make the plan in a worker, so that this process need not import torch; return it with the number of GPUs."""
    path = find_study(options.study)
    read_study(path).override(seeds=options.seeds, mode=options.mode, settings={})  # what is wrong is said at once
    if getattr(options, "jobs", None) is not None and options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: at least one training must run at a time.")
    settings = _settings(options.set)
    with err.status("Making the plan") if err.is_terminal else contextlib.nullcontext():
        return workers.call(_plan_and_count_gpus, path, options.seeds, options.mode, settings)


def _plan_and_count_gpus(*arguments: Any) -> tuple[Plan, int]:
    from ablations.planner import plan_and_count_gpus  # in the worker alone: it imports torch and Lightning

    return plan_and_count_gpus(*arguments)


def _follow(events: Any, progress: StudyProgress) -> None:
    event: Event
    with progress:
        for event in events:
            progress.show(event)


def _folder(options: argparse.Namespace, plan: Plan) -> Path:
    return study_folder(options.results, plan, read_study(plan.study.path).mode)


def _store(options: argparse.Namespace) -> RunStore:
    return RunStore(options.results / "runs")


def _say_corrupt(trainings: list[Training]) -> None:
    for training in trainings:
        for path in RunFolder(training.folder).corrupt(training.scorings):
            err.print(f"{path} cannot be read; it is made again.", style="yellow", markup=False, soft_wrap=True)


def _plan_sentence(plan: Plan, trainings: list[Training], done: list[Training], jobs: int) -> str:
    seeds, rows = len(plan.study.seeds), len(plan.rows)
    text = f"{rows} row{_s(rows)} x {seeds} seed{_s(seeds)} = {len(trainings)} training{_s(len(trainings))}"
    if len(trainings) < rows * seeds:
        text += f" instead of {rows * seeds}"
    left = len(trainings) - len(done)
    text += f"; {len(done)} done, {left} to do"
    if left and done:
        seconds = [(RunFolder(training.folder).result() or {}).get("seconds", 0.0) for training in done]
        text += f", about {duration(sum(seconds) / len(seconds) * left / jobs)} with {jobs} at a time"
    elif left:
        text += "; how long that takes is known when the first is done"
    return text + "."


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _chosen_rows(plan: Plan, chosen: list[str] | None) -> list[int] | None:
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
            raise UserError(f"there is no row {name!r}. {_existing(plan.rows)}{did_you_mean(name, by_name)}")
    if missing := [row for row in rows if row >= len(plan.rows)]:
        raise UserError(f"there is no row {missing[0]}. {_existing(plan.rows)}")
    return rows


def _existing(rows: tuple[Row, ...]) -> str:
    return f"The study has rows 0 to {len(rows) - 1}: {', '.join(row.trick or row.name for row in rows)}."


def _settings(pairs: list[str]) -> dict[str, Any]:
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


def _head(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": shlex.join(["ablate", *sys.argv[1:]]),
        "commit": code_version(),
        "versions": library_versions(),
        "hardware": processor_name(),
        "date": time.strftime("%Y-%m-%d"),
    }
