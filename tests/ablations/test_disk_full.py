"""A disk that fills up while a study writes: what could not be written fails, and nothing else is lost."""

import subprocess

import pandas as pd
import pytest

from tests.helpers.command_server import run_ablate
from tests.helpers.recipes import write_study


@pytest.fixture
def small_disk(tmp_path):
    """A results folder on a disk of its own, too small for the study."""
    results = tmp_path / "results"
    results.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=450k", "tmpfs", str(results)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    yield results
    subprocess.run(["umount", str(results)], check=True)


def test_a_full_disk_fails_trainings_and_leaves_a_store_that_can_be_read(small_disk):
    folder = small_disk.parent
    study = write_study(folder, seeds=4)
    full = run_ablate(folder, "run", study, "--jobs", 2)
    assert full.returncode == 1
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    finished = {path.parent for path in small_disk.glob("runs/*/*/scores/last.json")}
    assert 0 < len(finished) < 12

    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = run_ablate(folder, "run", study, "--jobs", 2)
    assert again.returncode == 0, again.stderr
    assert f"{len(finished)} of 12 trainings are in results/runs already" in again.stderr
    scores = (small_disk / "small/scores.csv").read_bytes()
    assert list(pd.read_csv(small_disk / "small/scores.csv")["status"].unique()) == ["done"]

    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    undisturbed = run_ablate(folder, "run", study, "--jobs", 2, "--results", elsewhere)
    assert undisturbed.returncode == 0
    assert (elsewhere / "small/scores.csv").read_bytes() == scores
