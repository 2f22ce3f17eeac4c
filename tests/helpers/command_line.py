"""Runs `ablate` in a process of its own, as a user does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """Return the environment in which `ablate` finds this checkout's packages, wherever it is called."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def run_ablate(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `ablate` in a folder and wait for it."""
    command = [sys.executable, "-m", "ablations.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment())


def hear_ctrl_c() -> None:
    """Let a process that is about to start hear Ctrl-C, which it does not if these tests run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
