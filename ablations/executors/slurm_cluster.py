"""What Slurm says, and what it is asked: partitions, the queue, cancelling."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from ablations.errors import UserError, did_you_mean
from ablations.plan import Training

ACTIVE = {
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD",
    "RESIZING", "RESV_DEL_HOLD", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED",
}  # fmt: skip
"""States of tasks that are queued, running, or will be again."""

_ENTRY = "%F|%K|%j|%T|%r|%N|%k"  # array, index, name, state, reason, nodes, comment


@dataclass(frozen=True)
class SlurmOptions:
    """What the trainings of a study ask Slurm for.

    Args:
        partition: where they run; Slurm's default one if empty.
        gpus_per_node: on each node of a training; 0 for none.
        cpus_per_task: processor cores of each process of a training.
        minutes: the time limit of a task. A training that takes longer is requeued and goes on.
        memory_gib: memory on each node of a training, in GiB; 0 leaves it to Slurm.
        account: who pays; Slurm's default if empty.
        qos: the quality of service; Slurm's default if empty.
        constraint: features that nodes must have; none if empty.
        max_running: trainings that run at a time, at most.
        retries: how often a training is started again that its node took along.
        poll_seconds: how long the study waits between two looks at the queue.
    """

    partition: str = ""
    gpus_per_node: int = 0
    cpus_per_task: int = 1
    minutes: int = 240
    memory_gib: float = 0
    account: str = ""
    qos: str = ""
    constraint: str = ""
    max_running: int = 256
    retries: int = 2
    poll_seconds: float = 10.0


@dataclass(frozen=True)
class QueueEntry:
    """One task in Slurm's queue, or one that left it a short while ago.

    Args:
        task: its number, such as `17_3`.
        job_name: the name of the job array.
        state: Slurm's word for what it does.
        reason: why it waits or ended.
        nodes: where it is, or was.
        comment: what the node said that could not run it.
    """

    task: str
    job_name: str
    state: str
    reason: str
    nodes: str
    comment: str

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE


def minutes_of(text: str) -> int:
    """Return a time limit in whole minutes, of the ways in which Slurm takes it.

    Raises:
        UserError: it is none of these.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match:
        days, first, second, third = (None if part is None else int(part) for part in match.groups())
        if days is not None:  # days-hours, days-hours:minutes, days-hours:minutes:seconds
            seconds = ((days * 24 + (first or 0)) * 60 + (second or 0)) * 60 + (third or 0)
        elif third is not None:
            seconds = ((first or 0) * 60 + (second or 0)) * 60 + third
        else:
            seconds = (first or 0) * 60 + (second or 0)
        if seconds > 0:
            return -(-seconds // 60)
    raise UserError(f"--slurm.time {text!r} is no time limit. Write minutes, hours:minutes:seconds or days-hours.")


def check_cluster(options: SlurmOptions, trainings: Iterable[Training]) -> None:
    """See that there is a Slurm that can run the trainings.

    Raises:
        UserError: there is none, or no node of the partition is large enough.
    """
    if shutil.which("sbatch") is None:
        raise UserError(
            "there is no Slurm on this machine: the command sbatch is not found. Run this on the cluster's login node, "
            "or leave --executor slurm out."
        )
    if importlib.util.find_spec("submitit") is None:
        raise UserError("--executor slurm needs submitit. Install it: pip install 'trickstack[slurm]'.")
    partitions: dict[str, list[tuple[int, int, int]]] = {}
    default = ""
    for line in _ask("sinfo", "--noheader", "--format=%P|%D|%c|%G").splitlines():
        name, nodes, cores, resources = line.split("|")
        default = name.removesuffix("*") if name.endswith("*") else default
        partitions.setdefault(name.removesuffix("*"), []).append((int(nodes), _number(cores), _gpus(resources)))
    chosen = options.partition or default
    if chosen not in partitions:
        offer = did_you_mean(chosen, partitions)
        raise UserError(f"Slurm has no partition {chosen!r}; it has {', '.join(sorted(partitions))}.{offer}")
    for training in trainings:
        _check_size(training, options, chosen, partitions[chosen])


def _check_size(training: Training, options: SlurmOptions, partition: str, nodes: list[tuple[int, int, int]]) -> None:
    wanted, gpus = training.processes, options.gpus_per_node
    if gpus and wanted.devices != gpus and not training.is_ensemble:
        raise UserError(
            f"--slurm.gpus_per_node is {gpus}, and a training has trainer.devices={wanted.devices}: each process takes "
            f"one GPU. Make them equal, for example with --set trainer.devices={gpus}."
        )
    most_gpus = max(gpu for _, _, gpu in nodes)
    if gpus > most_gpus:
        raise UserError(
            f"--slurm.gpus_per_node is {gpus}, and a node of the partition {partition!r} has {most_gpus} GPUs at most."
        )
    cores, most_cores = wanted.devices * options.cpus_per_task, max(core for _, core, _ in nodes)
    if cores > most_cores:
        raise UserError(
            f"a training takes {wanted.devices} processes x {options.cpus_per_task} cores on a node, and a node of the "
            f"partition {partition!r} has {most_cores} cores at most. Lower trainer.devices or --slurm.cpus_per_task."
        )
    if wanted.nodes > (count := sum(number for number, _, _ in nodes)):
        raise UserError(f"trainer.num_nodes is {wanted.nodes}, and the partition {partition!r} has {count} nodes.")


def read_queue() -> dict[str, QueueEntry] | None:
    """Return this user's tasks by number, also those that ended lately; `None` if Slurm does not answer."""
    try:
        text = _ask("squeue", "--noheader", "--me", "--array", "--states=all", f"--format={_ENTRY}")
    except UserError:
        return None
    entries = {}
    for line in text.splitlines():
        array, index, *rest = line.split("|", 6)
        task = array if index == "N/A" else f"{array}_{index}"
        entries[task] = QueueEntry(task, *rest)
    return entries


def cancel(tasks: list[str]) -> None:
    """Take tasks out of the queue, and stop those that run."""
    for start in range(0, len(tasks), 500):  # a command line has a limit
        _ask("scancel", *tasks[start : start + 500])


def largest_array() -> int:
    """Return how many tasks a job array may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"))
    return int(found[1]) - 1 if found else 1000


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"Slurm does not answer ({command[0]}: {error}).") from None
    if done.returncode:
        first = next(iter(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
        raise UserError(f"Slurm does not answer ({command[0]}: {first}).")
    return done.stdout


def _gpus(resources: str) -> int:
    """Return the GPUs in Slurm's list of generic resources, such as `gpu:a100:4(S:0-1),nvme:1`."""
    plain = re.sub(r"\([^)]*\)", "", resources)
    parts = [part.split(":") for part in plain.split(",") if part.split(":")[0] == "gpu"]
    return sum(int(part[-1]) if part[-1].isdigit() else 1 for part in parts)


def _number(text: str) -> int:
    return int(re.sub(r"\D", "", text) or 0)
