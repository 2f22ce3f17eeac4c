"""The verbs about one recipe: train it, look for what is wrong with it."""

import argparse
import contextlib
import logging
import sys
from dataclasses import replace
from pathlib import Path

from rich.text import Text

from ablations.commands.arguments import read_settings, run_store
from ablations.commands.console import err, out
from ablations.commands.shared_steps import connect_in_worker, goes_offline, search_rate
from ablations.errors import RecipeError
from ablations.executors import Finished, run_local
from ablations.plan import Training, is_search
from ablations.processes import check_machine
from ablations.store import RunFolder, RunStore, make_writable
from ablations.tracking import check_project, track_recipe


def fit_command(options: argparse.Namespace) -> int:
    """Train one recipe and print its scores: in this process, or in one a device that are started for it.

    Under torchrun or srun each process runs this; the first alone says anything.
    """
    from ablations.data_problems import data_problems  # imports torch and Lightning, as the next one does
    from ablations.planner import single_training, with_ensemble
    from ablations.process_group import started_as
    from ablations.tracking.runs import send_finished

    ranks = started_as()
    err.quiet = out.quiet = ranks is not None and not ranks.is_first
    project = check_project(options.wandb) if options.wandb is not None else ""
    arguments = (options.recipe, read_settings(options.set), options.seed, run_store(options))
    training = single_training(*arguments)
    if problems := data_problems(training.recipe, [training.seed]):
        raise RecipeError(f"recipe {options.recipe}: {' '.join(problems)}")
    if is_search(training.recipe):
        if not (search_rate(training) if ranks is None else _fit(training)):
            return 1
        training = single_training(*arguments)
    offline = bool(project) and goes_offline(connect_in_worker())
    for part in with_ensemble(training):
        if project:
            part = track_recipe(part, options.recipe, project, offline)
        alone = part.processes.count == 1 or ranks is not None
        if not (_fit(replace(part, show_progress=err.is_terminal)) if alone else _fit_in_others(part)):
            return 1
        if project and not err.quiet:
            send_finished([part])  # where it was done before
    name = list(part.scorings)[-1]
    for metric, value in (RunFolder(training.folder).score(name) or {}).items():
        out.print(f"{metric}: {value:.4f}", highlight=False)
    err.print(f"Recipe, weights, learning curve and scores are in {training.folder}.", soft_wrap=True)
    return 0


def _fit(training: Training) -> bool:
    """Run a training in this process, unless it is done; return whether it succeeded."""
    from ablations.training import run_and_record  # imports torch and Lightning

    try:
        with contextlib.redirect_stdout(sys.stderr):  # Lightning's progress bar; the scores are the output
            if not _is_done(training):
                run_and_record(training)
    except SystemExit:
        return _say_failure(str(RunFolder(training.folder).status().get("reason")))
    return True


def _fit_in_others(training: Training) -> bool:
    """Run a training in processes of its own, one a device, unless it is done; return whether it succeeded."""
    import torch

    gpus = torch.cuda.device_count()
    check_machine([training], "local", gpus)
    for event in () if _is_done(training) else run_local([training], 1, gpus):
        if isinstance(event, Finished) and event.reason:
            return _say_failure(event.reason)
    return True


def _is_done(training: Training) -> bool:
    make_writable(training.folder)
    if done := training.is_done():
        err.print(f"This training is done already; its scores are in {training.folder}.", soft_wrap=True)
    return done


def _say_failure(reason: str) -> bool:
    err.print(f"The training failed: {reason}", style="red", markup=False)
    return False


def check_command(options: argparse.Namespace) -> int:
    """Run the diagnostics on one recipe and print what each found."""
    from ablations.check import check, find_recipe  # imports torch and Lightning
    from ablations.planner import single_training

    training = single_training(find_recipe(options.recipe), read_settings(options.set), None, RunStore(Path()))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its hints about devices and other products
    verdicts = []
    with err.status("Looking") if err.is_terminal else contextlib.nullcontext():
        for finding in check(training.config()):
            verdicts.append(finding.verdict)
            style = "bold yellow" if finding.verdict == "look here" else "dim" if finding.verdict == "not run" else None
            line = Text(f"{finding.verdict:<10} {finding.name}: {finding.saw}", style or "")
            out.print(line, highlight=False, soft_wrap=True)
            if finding.advice:
                out.print(f"{'':<10} {finding.advice}", markup=False, highlight=False, soft_wrap=True)
    return 1 if "look here" in verdicts else 0
