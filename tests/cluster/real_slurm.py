"""A Slurm of two nodes on this host, and ways to be rude to it."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from ablations.executors.slurm_cluster import read_queue
from ablations.plan import Training
from ablations.store import RunFolder

SCRIPTS = Path(__file__).parent


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
    """Let tasks that were requeued start at once; Slurm leaves them alone for two minutes."""
    ended = threading.Event()

    def hasten() -> None:
        while not ended.wait(0.5):
            for entry in (read_queue() or {}).values():
                if entry.state == "PENDING" and entry.reason == "BeginTime":
                    command = ["scontrol", "update", f"JobId={entry.task}", "StartTime=now"]
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
    subprocess.run([SCRIPTS / "start_node.sh", folder, node], check=True)
