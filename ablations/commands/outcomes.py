"""The verbs about a study that ran: its table, its report, the recipe that won."""

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ablations import workers
from ablations.commands.arguments import read_settings, run_store, stored_folder
from ablations.commands.console import err, out
from ablations.errors import UserError
from ablations.plan import Plan, Row
from ablations.results import gather, read_study_record
from ablations.study_file import find_study, read_study


def table_command(options: argparse.Namespace) -> int:
    """Gather the scores of a study from the store again, and print its table."""
    from ablations.table import to_rich, write_table  # imports pandas, which a plan is spared

    folder = stored_folder(options)
    gather(folder, run_store(options))
    out.print(to_rich(write_table(folder)))
    return 0


def report_command(options: argparse.Namespace) -> int:
    """Write the report of a study from its results folder and, where it is there, the run store."""
    from ablations.report import write_report  # imports pandas and matplotlib

    with err.status("Drawing the figures") if err.is_terminal else contextlib.nullcontext():
        page = write_report(stored_folder(options), run_store(options))
    out.print(page, highlight=False, soft_wrap=True, markup=False)
    err.print(f"Its figures are in {page.parent / 'figures'}, its table for LaTeX is table.tex.", soft_wrap=True)
    return 0


def best_command(options: argparse.Namespace) -> int:
    """Write the recipe with the tricks of a study that earned their place, from what its table says."""
    from ablations import best  # imports pandas, with the table
    from ablations.table import read_table

    folder = stored_folder(options)
    record = read_study_record(folder)
    if record is None:
        raise UserError(f"{folder} holds no study yet. Run it first: ablate run {options.study}.")
    table = read_table(folder)
    choices = best.choose(table, record, options.max_cost)
    kept = [choice.trick for choice in choices if choice.kept]
    settings = read_settings(options.set)
    study = read_study(find_study(options.study)).override(seeds=None, mode=table.mode, settings=settings)
    study = replace(study, seeds=table.seeds)
    with err.status("Making the recipe") if err.is_terminal else contextlib.nullcontext():
        plan = workers.call(_plan_with_best, study, run_store(options), tuple(kept))
    best.check_same_study(folder, record, plan)
    path = options.output or folder / "best.yaml"
    notes = [*best.interference(table, kept), *_best_notes(best.same_row(plan), kept)]
    best.write_best(path, plan, choices, notes)
    for line in [*map(str, choices), *notes]:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    out.print(
        f"The recipe is in {path}. It runs alone: ablate fit {path}", markup=False, highlight=False, soft_wrap=True
    )
    return 0


def _best_notes(row: Row | None, kept: Sequence[str]) -> list[str]:
    notes = [] if kept else ["No trick earned its place, so this is the base."]
    if row is not None:
        return [*notes, f"It is what row {row.index} ({row.name}) of the study trained."]
    return [*notes, "No row of the study has exactly these tricks, so train it before you rely on it."]


def _plan_with_best(*arguments: Any) -> Plan:
    from ablations.planner import plan_with_best  # in the worker alone: it imports torch and Lightning

    return plan_with_best(*arguments)
