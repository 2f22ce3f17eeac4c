"""The verb that runs a study: searches first, then trainings, in rounds where it is a race, and the table."""

import argparse
import shlex
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ablations import workers
from ablations.commands.arguments import chosen_rows, make_plan, misfits, plan_folder, run_store
from ablations.commands.cluster import slurm_options
from ablations.commands.console import err, out
from ablations.commands.shared_steps import connect_in_worker, goes_offline, say_searches, search_rate
from ablations.environment import code_version, library_versions, processor_name
from ablations.errors import StudyError, UserError
from ablations.executors import Event, default_jobs, most_devices, run_inline, run_local, run_slurm
from ablations.executors.slurm_cluster import check_cluster
from ablations.plan import Plan, Training
from ablations.processes import check_machine
from ablations.progress import StudyProgress
from ablations.results import check_unchanged, gather, lost_scores, read_study_record, set_aside, write_study
from ablations.store import RunFolder, RunStore, make_writable
from ablations.tracking import check_project, track_study


def run_command(options: argparse.Namespace) -> int:
    """Train what a study still needs, and print its table."""
    slurm_options(options)  # what is wrong with them is said at once
    from ablations.table import to_rich, write_table  # imports pandas, which a plan is spared

    given = check_project(options.wandb) if options.wandb is not None else ""
    plan, gpus = make_plan(options)
    rows = chosen_rows(plan, options.rows)
    if problems := misfits(plan, rows):
        raise StudyError(*(f"{plan.study.path}: {problem}" for problem in problems))
    race = _race(options, plan)
    store = run_store(options)
    make_writable(store.path)
    project = given or plan.study.wandb_project
    offline = bool(project) and goes_offline(workers.call(connect_in_worker))
    if plan.searches:
        if options.executor == "slurm":
            say_searches(run_slurm(list(plan.searches), plan.study.name, slurm_options(options)))
        else:
            for training in plan.searches:
                search_rate(training)
        plan, gpus = make_plan(options)
    folder = plan_folder(options, plan)
    if read_study_record(folder) is None or not race:  # a race may need no more than it has
        _check_executor([each for each in plan.trainings(store, rows) if not each.is_done()], options, gpus)
    make_writable(folder)
    if not options.replace:
        check_unchanged(folder, plan, store)
    elif read_study_record(folder) is not None and lost_scores(folder, plan, store):
        err.print(f"The table that stood in {folder} is kept in {set_aside(folder)}.", soft_wrap=True)
    write_study(folder, plan, store, _head(options), race)
    failures, followed = 0, []
    try:
        for trainings in _rounds(plan, store, rows, folder if race else None):
            tracked = track_study(plan, trainings, project, offline) if project else trainings
            followed += tracked
            failures += _run_trainings(plan, tracked, store, options, gpus)
    finally:
        lines = gather(folder, store)
        table = write_table(folder)
    failures += sum(line["status"] == "failed" and (rows is None or line["row"] in rows) for line in lines)
    if project:
        _send_finished(followed)
        _send_summary(folder, project, offline, options)
    out.print(to_rich(table))
    err.print(f"The table is in {folder / 'table.md'}, its scores are in {folder / 'scores.csv'}.", soft_wrap=True)
    return 1 if failures or plan.searches else 0


def _send_finished(trainings: list[Training]) -> None:
    """Make W&B runs, from a worker, for trainings that were done before anybody asked for a run."""
    if count := workers.call(_finish_runs, trainings):
        err.print(f"Made {count} runs in W&B for trainings that were done before.", soft_wrap=True)


def _finish_runs(trainings: list[Training]) -> int:
    from ablations.tracking.runs import send_finished  # in the worker alone: it imports Lightning and the client

    return send_finished(trainings)


def _send_summary(folder: Path, project: str, offline: bool, options: argparse.Namespace) -> None:
    """Send the table of a study to W&B, from a worker."""
    name = "-".join(folder.relative_to(options.results).parts)
    if reason := workers.call(_summarize, folder, name, project, offline):
        err.print(f"W&B did not take the table ({reason}).", style="yellow", markup=False, soft_wrap=True)
        return
    err.print(
        f"In W&B, the project {project} has the runs; `Group by` study.rows puts the seeds of "
        f"a row together, the run '{name} / summary' has the table.",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    address, reason = workers.call(_offer_workspace, folder, project, offline)
    if reason:
        err.print(f"W&B did not take the workspace ({reason}).", style="yellow", markup=False, soft_wrap=True)
    elif address:
        err.print(f"A workspace shows the rows side by side: {address}", markup=False, soft_wrap=True)


def _offer_workspace(*arguments: Any) -> tuple[str, str]:
    from ablations.tracking.workspace import offer_workspace  # in the worker alone: it imports the client

    return offer_workspace(*arguments)


def _summarize(*arguments: Any) -> str:
    from ablations.tracking.summary import send_summary  # in the worker alone: it imports the client

    return send_summary(*arguments)


def _run_trainings(
    plan: Plan, trainings: list[Training], store: RunStore, options: argparse.Namespace, gpus: int
) -> int:
    """Run those trainings that are not done yet; return how many failed."""
    waiting = [training for training in trainings if not training.is_done()]
    _say_corrupt(trainings)
    err.print(f"{len(trainings) - len(waiting)} of {len(trainings)} trainings are in {store.path} already.")
    events = _events(waiting, plan.study.name, options, gpus)
    progress = StudyProgress(plan, trainings, waiting, err)
    with progress:
        for event in events:
            progress.show(event)
    return len(progress.failures)


def _events(trainings: list[Training], study: str, options: argparse.Namespace, gpus: int) -> Iterator[Event]:
    """Return what the chosen executor does with the trainings."""
    if options.executor == "slurm":
        return run_slurm(trainings, study, slurm_options(options))
    check_machine(trainings, options.executor, gpus)
    jobs = options.jobs or default_jobs(gpus, most_devices(trainings))
    return run_inline(trainings, jobs) if options.executor == "inline" else run_local(trainings, jobs, gpus)


def _check_executor(trainings: list[Training], options: argparse.Namespace, gpus: int) -> None:
    """See that this machine, or its Slurm, can run the trainings, before anything is written for them.

    A study that was recorded would refuse the settings with which it can be run as another version of itself.
    """
    if options.executor != "slurm":
        check_machine(trainings, options.executor, gpus)
    elif trainings:
        check_cluster(slurm_options(options), trainings)


def _say_corrupt(trainings: list[Training]) -> None:
    for training in trainings:
        for path in RunFolder(training.folder).corrupt(training.scorings):
            err.print(f"{path} cannot be read; it is made again.", style="yellow", markup=False, soft_wrap=True)


def _rounds(plan: Plan, store: RunStore, rows: list[int] | None, race_folder: Path | None) -> Iterator[list[Training]]:
    """Yield the trainings of a study: all at once, or, in a race, those that the next look at its table needs."""
    if race_folder is None:
        yield plan.trainings(store, rows, code_version())
        return
    from ablations.table_numbers import read_table  # imports pandas, which a plan is spared

    needed: Collection[tuple[int, int]] | None = None
    while True:
        gather(race_folder, store)
        before, needed = needed, read_table(race_folder).needed
        if not needed or needed == before:  # the same again: what failed to start would fail again
            return
        yield plan.trainings(store, None, code_version(), only=set(needed))


def _race(options: argparse.Namespace, plan: Plan) -> dict[str, Any] | None:
    """Return the rule of the race that is asked for, as the study's record holds it.

    Raises:
        UserError: the rule cannot be kept.
    """
    if not options.until_decided:
        if options.effect is not None or options.max_seeds is not None:
            raise UserError("--effect and --max-seeds are settings of a race; add --until-decided.")
        return None
    from ablations.racing import Race  # imports numpy and scipy, which a plan is spared

    if plan.study.mode in ("pairs", "shapley"):
        raise UserError(
            f"--until-decided stops seeds by the comparison of two rows; mode {plan.study.mode!r} asks for more. "
            f"Leave one of them out."
        )
    if options.rows:
        raise UserError("--until-decided chooses the rows that need another seed by itself; leave --rows out.")
    if options.seeds is not None:
        raise UserError("--until-decided takes --max-seeds, the seeds that a row gets at most, in place of --seeds.")
    if grouped := [row.name for row in plan.rows if row.group > 1]:
        raise UserError(
            f"--until-decided looks after every seed, and {grouped[0]!r} makes a score of several. Drop it."
        )
    rule = Race(plan.study.seeds, options.effect)
    return {"max_seeds": len(plan.study.seeds), "first": rule.first, "effect": rule.effect}


def _head(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": shlex.join(["ablate", *sys.argv[1:]]),
        "commit": code_version(),
        "versions": library_versions(),
        "hardware": processor_name(),
        "date": time.strftime("%Y-%m-%d"),
    }
