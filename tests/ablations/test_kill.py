"""A study that is killed at any moment and run again ends with the scores of one that never was."""

import contextlib
import json
import os
import random
import select
import signal
from pathlib import Path

import pytest

from tests.helpers.command_server import command_server, run_ablate
from tests.helpers.recipes import write_study

TRICKS = ["cosine_schedule", "label_smoothing", {"tta_crops": {"padding": 1}}]
TRAININGS = 9


def read_until(stream, finished):
    """Read the study's progress until so many trainings have finished; return whether it got there."""
    return any(line.startswith(f"{finished} of ") for line in stream)


def state(path):
    return json.loads((path.parent / "status.json").read_text())["state"]


def results(folder):
    """Return when each training was recorded of those that are scored, too."""
    paths = (folder / "results/runs").rglob("result.json")
    return {path.parent: path.stat().st_mtime_ns for path in paths if state(path) == "done"}


def running_pids(folder):
    """Return the processes of trainings that are under way."""
    pids = []
    for path in (folder / "results/runs").rglob("status.json"):
        status = json.loads(path.read_text())
        if status["state"] == "running" and Path(f"/proc/{status['pid']}").exists():
            pids.append(status["pid"])
    return pids


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run_ablate(folder, "run", write_study(folder, tricks=TRICKS, seeds=3), "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert len(results(folder)) == TRAININGS
    return (folder / "results/small/scores.csv").read_bytes()


def test_a_study_that_is_killed_again_and_again_ends_with_the_same_scores(undisturbed, tmp_path):
    study = write_study(tmp_path, tricks=TRICKS, seeds=3)
    moments = random.Random(20)
    kept = {}
    for _ in range(3):
        process = command_server().start(tmp_path, "run", study, "--jobs", 2)
        if read_until(process.err, moments.randint(1, 2)):
            process.send(signal.SIGKILL)
        process.finish()
        assert kept.items() <= results(tmp_path).items()  # what was finished stays as it was
        kept = results(tmp_path)
    done = run_ablate(tmp_path, "run", study, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} of {TRAININGS} trainings are in results/runs already" in done.stderr
    assert kept.items() <= results(tmp_path).items()
    assert (tmp_path / "results/small/scores.csv").read_bytes() == undisturbed


def kill_in_mid_training(folder, study):
    """Kill trainings while they are under way for certain (they are halted first) and return how many."""
    killed = 0
    while not killed and study.returncode is None:
        for pid in running_pids(folder):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGSTOP)
                under_way = pid in running_pids(folder)
                os.kill(pid, signal.SIGKILL if under_way else signal.SIGCONT)
                killed += under_way
    return killed


def test_a_training_that_is_killed_is_recorded_and_only_it_is_done_again(undisturbed, tmp_path):
    study = write_study(tmp_path, tricks=TRICKS, seeds=3)
    process = command_server().start(tmp_path, "run", study, "--jobs", 2)
    assert read_until(process.err, 1)
    killed = kill_in_mid_training(tmp_path, process)
    process.finish()
    failed = [path for path in (tmp_path / "results/runs").rglob("status.json") if "SIGKILL" in path.read_text()]
    assert len(failed) == killed > 0
    assert process.returncode == 1
    assert "failed" in (tmp_path / "results/small/table.md").read_text()
    done = run_ablate(tmp_path, "run", study, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert f"{TRAININGS - killed} of {TRAININGS} trainings are in results/runs already" in done.stderr
    assert (tmp_path / "results/small/scores.csv").read_bytes() == undisturbed


def test_ctrl_c_stops_the_study_and_its_trainings_and_keeps_what_is_finished(undisturbed, tmp_path):
    study = write_study(tmp_path, tricks=TRICKS, seeds=3)
    process = command_server().start(tmp_path, "run", study, "--jobs", 2)
    assert read_until(process.err, 2)
    process.send(signal.SIGINT)
    err = process.finish().stderr
    assert process.returncode == 130
    assert "Everything that was finished is kept" in " ".join(err.split())
    assert "Traceback" not in err
    assert running_pids(tmp_path) == []
    assert len(results(tmp_path)) >= 2
    assert "not run" in (tmp_path / "results/small/table.md").read_text()
    assert run_ablate(tmp_path, "run", study, "--jobs", 2).returncode == 0
    assert (tmp_path / "results/small/scores.csv").read_bytes() == undisturbed


def test_trainings_end_when_the_study_is_killed(tmp_path):
    study = write_study(tmp_path, tricks=TRICKS, set={"trainer.max_epochs": 100000})
    process = command_server().start(tmp_path, "run", study, "--jobs", 1)
    status = None
    while status is None and process.returncode is None:
        status = next(iter((tmp_path / "results/runs").rglob("status.json")), None)
    assert status is not None
    training = os.pidfd_open(json.loads(status.read_text())["pid"])
    process.send(signal.SIGKILL)
    process.finish()
    ended, _, _ = select.select([training], [], [], 60)
    os.close(training)
    assert ended, "the training outlived its study"
