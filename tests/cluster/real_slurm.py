"""A Slurm of two nodes on this host, and ways to be rude to it."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from ablations.executors.slurm_cluster import read_queue
from ablations.plan import Training
from ablations.store import RunFolder

SCRIPTS = Path(__file__).parent
SETTLED_SECONDS = 2
"""A node refuses a task that comes back in the second in which it was taken away ("Job credential revoked")."""


@contextlib.contextmanager
def real_slurm(folder: Path) -> Iterator[None]:
    """Start Slurm and end it afterwards; its commands find it. Skips the test where it is not installed."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"Slurm's tests need root and {', '.join(missing) or 'nothing else'}")
    with mock.patch.dict(os.environ, {"SLURM_CONF": str(folder / "slurm.conf")}):
        try:
            subprocess.run([SCRIPTS / "start_slurm.sh", folder], check=True)
            with _without_delay():
                yield
        finally:
            subprocess.run([SCRIPTS / "stop_slurm.sh", folder], check=True)


@contextlib.contextmanager
def _without_delay() -> Iterator[None]:
    """Let tasks that were requeued start in a moment; Slurm leaves them alone for two minutes."""
    ended = threading.Event()

    def hasten() -> None:
        since: dict[str, float] = {}
        while not ended.wait(0.5):
            entries, now = (read_queue() or {}).values(), time.monotonic()
            waiting = [entry.task for entry in entries if (entry.state, entry.reason) == ("PENDING", "BeginTime")]
            since = {task: since.get(task, now) for task in waiting}
            for task in (task for task, first in since.items() if now - first >= SETTLED_SECONDS):
                command = ["scontrol", "update", f"JobId={task}", "StartTime=now"]
                subprocess.run(command, check=False, capture_output=True)

    thread = threading.Thread(target=hasten)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def lose_node(folder: Path, node: str, training: Training) -> None:
    """Let a node die: its slurmd, and all that a training has there, without a word to anybody."""
    os.kill(int((folder / f"{node}.pid").read_text()), signal.SIGKILL)
    pid = RunFolder(training.folder).status()["pid"]
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (job,) = (value.partition(b"=")[2].decode() for value in environment if value.startswith(b"SLURM_JOB_ID="))
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(f"slurmstepd: [{job}.".encode()):
                os.kill(int(path.parent.name), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)


def start_node(folder: Path, node: str) -> None:
    """Start a node that died; it takes tasks again."""
    subprocess.run([SCRIPTS / "start_node.sh", folder, node], check=True)
    open_node(node)


def close_node(node: str) -> None:
    """Let no further tasks come to a node; those that are there go on."""
    subprocess.run(["scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=closed"], check=True)


def open_node(node: str) -> None:
    """Let tasks come to a node again, if it was closed."""
    subprocess.run(["scontrol", "update", f"NodeName={node}", "State=RESUME"], check=False, capture_output=True)


def end_time(task: str, training: Training) -> None:
    """Let the time limit of a task come near, and wait until Slurm has told its training, which is halted.

    Slurm looks at time limits twice a minute; it warns of one that is less than a minute away and ends what is beyond.
    """
    shown = subprocess.run(["scontrol", "show", "job", task], check=True, capture_output=True, text=True).stdout
    (hours, minutes, seconds), *_ = re.findall(r"RunTime=(\d+):(\d+):(\d+)", shown)
    status = Path(f"/proc/{RunFolder(training.folder).status()['pid']}/status")
    _limit(task, int(hours) * 60 + int(minutes) + (2 if int(seconds) > 20 else 1))
    with contextlib.suppress(FileNotFoundError):  # it went on, and has ended already
        while not _is_pending(status.read_text(), signal.SIGUSR2):
            time.sleep(0.1)
    _limit(task, 10)


def _limit(task: str, minutes: int) -> None:
    subprocess.run(["scontrol", "update", f"JobId={task}", f"TimeLimit={minutes}"], check=True)


def _is_pending(status: str, sign: signal.Signals) -> bool:
    (pending,) = re.findall(r"^ShdPnd:\s*(\w+)$", status, flags=re.M)
    return bool(int(pending, 16) >> (sign - 1) & 1)


def recover(folder: Path) -> None:
    """Take all tasks out of the queue, start nodes that died, and open those that were closed."""
    subprocess.run(["scancel", "--user", "root"], check=False, capture_output=True)
    for node in ("node1", "node2"):
        pid = int((folder / f"{node}.pid").read_text())
        if not Path(f"/proc/{pid}/exe").exists():
            start_node(folder, node)
        else:
            open_node(node)
