"""The verbs about a study on a cluster: how its trainings are doing, and ending them."""

import argparse
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ablations.commands.arguments import run_store, stored_folder
from ablations.commands.console import err, out
from ablations.errors import UserError
from ablations.executors.slurm_cluster import QueueEntry, SlurmOptions, cancel, minutes_of, read_queue
from ablations.executors.slurm_submissions import Submissions
from ablations.plan import group_leaders
from ablations.results import read_study_record
from ablations.store import RunFolder, RunStore

STATES = ("done", "running", "pending", "failed", "missing")
SHOWN_REASONS = 50


@dataclass(frozen=True)
class State:
    """How one training is doing.

    Args:
        word: one of `STATES`.
        reason: why it waits or failed, or where it runs; empty if there is nothing to say.
    """

    word: str
    reason: str = ""


def status_command(options: argparse.Namespace) -> int:
    """Print how many trainings of each row are done, running, pending and failed, and why."""
    folder = stored_folder(options)
    record = _record(options, folder)
    states = _states(record, run_store(options))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("#", "row", *STATES):
        table.add_column(column, justify="left" if column == "row" else "right")
    for row in record["rows"]:
        words = Counter(states[place].word for place in _trainings(record, row))
        counts = [str(words[word] or "–") for word in STATES]
        table.add_row(*map(Text, (str(row["index"]), row["name"], *counts)))
    out.print(table)
    said = [(place, state) for place, state in states.items() if state.reason]
    for (key, seed), state in said[:SHOWN_REASONS]:
        log = run_store(options).folder(key, seed).log
        line = f"{state.word}: {_row_name(record, key)}, seed {seed}: {state.reason}; {log}"
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(said) > SHOWN_REASONS:
        out.print(f"and {len(said) - SHOWN_REASONS} more", highlight=False)
    return 0


def cancel_command(options: argparse.Namespace) -> int:
    """Take what a study has in Slurm's queue out of it, and stop what runs."""
    folder = stored_folder(options)
    record = _record(options, folder)
    queue = read_queue()
    if queue is None:
        raise UserError("Slurm does not answer (squeue), so nothing was cancelled. Is this the cluster's login node?")
    places = {place for row in record["rows"] for place in _trainings(record, row)}
    queued = Submissions(run_store(options)).queued(queue)
    tasks = [entry.task for (key, seed, _), entry in queued.items() if (key, seed) in places]
    cancel(tasks)
    ending = "" if len(tasks) == 1 else "s"
    err.print(f"Cancelled {len(tasks)} task{ending}; what was finished is kept, and `ablate run` goes on from there.")
    return 0


def slurm_options(options: argparse.Namespace) -> SlurmOptions:
    """Return what the command line asks Slurm for.

    Raises:
        UserError: a value is none that Slurm could take.
    """
    given = {name.removeprefix("slurm_"): value for name, value in vars(options).items() if name.startswith("slurm_")}
    given = {name: value for name, value in given.items() if value is not None}
    if given and options.executor != "slurm":
        raise UserError(f"--slurm.{next(iter(given))} needs --executor slurm.")
    for name, least in (("max_running", 1), ("cpus_per_task", 1), ("gpus_per_node", 0), ("retries", 0)):
        if given.get(name, least) < least:
            raise UserError(f"--slurm.{name} is {given[name]}; it must be at least {least}.")
    for name, unit in (("mem", "GiB"), ("poll", "seconds")):
        if not 0 < given.get(name, 1.0) < math.inf:  # nan is refused, too
            raise UserError(f"--slurm.{name} is {given[name]}; it must be a number of {unit} above 0.")
    if "time" in given:
        given["minutes"] = minutes_of(given.pop("time"))
    for short, name in (("mem", "memory_gib"), ("poll", "poll_seconds")):
        if short in given:
            given[name] = given.pop(short)
    return SlurmOptions(**given)


def _record(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    record = read_study_record(folder)
    if record is None:
        raise UserError(f"{folder} holds no study yet. Run it first: ablate run {options.study}.")
    return record


def _trainings(record: dict[str, Any], row: dict[str, Any]) -> list[tuple[str, int]]:
    """Return key and seed of every training behind a row."""
    seeds = group_leaders(record["seeds"], row.get("group", 1))
    pairs = row.get("trainings") or [[row["key"], 0]]
    return list(dict.fromkeys((key, seed + offset) for seed in seeds for key, offset in pairs))


def _states(record: dict[str, Any], store: RunStore) -> dict[tuple[str, int], State]:
    submissions = Submissions(store)
    queue = (read_queue() or {}) if submissions.folder.is_dir() else {}
    queued = {(key, seed): entry for (key, seed, _), entry in submissions.queued(queue).items()}
    places = dict.fromkeys(place for row in record["rows"] for place in _trainings(record, row))
    return {place: _state(store.folder(*place), queued.get(place)) for place in places}


def _state(folder: RunFolder, entry: QueueEntry | None) -> State:
    status = folder.status()
    if folder.result() is not None and status.get("state") != "failed":  # one whose scoring failed is not done
        return State("done")
    if entry is not None:
        if entry.state in ("RUNNING", "COMPLETING"):
            return State("running", f"task {entry.task} on {entry.nodes}")
        return State("pending", f"task {entry.task}, {entry.reason}")
    if status.get("state") == "failed":
        return State("failed", str(status.get("reason") or "unknown"))
    if status.get("state") == "running" and Path(f"/proc/{status.get('pid')}").exists():
        return State("running", f"process {status['pid']} on this machine")
    return State("missing")


def _row_name(record: dict[str, Any], key: str) -> str:
    names = [
        row["name"] for row in record["rows"] if key in [row["key"], *(pair[0] for pair in row.get("trainings", ()))]
    ]
    return str(names[0])
