"""Trainings as tasks of a real Slurm with two nodes, which are taken away from under them."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from ablations import leases
from ablations.cli import main
from ablations.errors import UserError
from ablations.executors import Finished, Started, run_local, run_slurm, slurm_submissions
from ablations.executors.slurm_cluster import SlurmOptions, cancel, read_queue
from ablations.executors.slurm_submissions import Submissions, identity_of, read_note
from ablations.planner import load_plan
from ablations.results import gather, write_study
from ablations.store import RunFolder, RunStore
from tests.cluster.real_slurm import close_node, end_time, lose_node, real_slurm, recover, start_node
from tests.helpers.recipes import QUICK
from tests.helpers.recipes import write_study as write_study_file

OPTIONS = SlurmOptions(minutes=10, poll_seconds=0.5)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    with real_slurm(folder):
        yield folder


@pytest.fixture(autouse=True)
def _whole_again(slurm):
    """Leave nothing to the next test, however one ends: no task, and no dead node."""
    yield
    recover(slurm)


def make_plan(folder, **settings):
    """Return the plan of a small study and its trainings, which leave a checkpoint in every epoch."""
    folder.mkdir(parents=True)
    plan = load_plan(write_study_file(folder, tricks=["label_smoothing"], set={**QUICK, **settings}))
    store = RunStore(folder / "results" / "runs")
    write_study(folder / "results" / "small", plan, store, {})
    return plan, [replace(each, checkpoint_seconds=0.0) for each in plan.trainings(store)]


def scores(folder):
    """Return the bytes of `scores.csv`."""
    gather(folder / "results" / "small", RunStore(folder / "results" / "runs"))
    return (folder / "results" / "small" / "scores.csv").read_bytes()


def follow(events):
    """Take all events and return the reasons of failures."""
    return [event.reason for event in events if isinstance(event, Finished) and event.reason]


def start(trainings):
    """Run trainings and return the generator when all of them have started."""
    events = run_slurm(trainings, "small", OPTIONS)
    started = (event for event in events if isinstance(event, Started))
    assert len(list(itertools.islice(started, len(trainings)))) == len(trainings)
    return events


def stop_each_in_mid_training(stops):
    """Halt each training when it has left a checkpoint, so that none can end before, and call what stops it.

    Slurm lets a process go on that it sends a signal.
    """
    end, halted = time.monotonic() + 300, set()
    while halted < stops.keys():
        assert time.monotonic() < end
        for folder in map(RunFolder, stops.keys() - halted):
            if folder.checkpoint.exists():
                os.kill(folder.status()["pid"], signal.SIGSTOP)
                assert folder.result() is None
                halted.add(folder.path)
        time.sleep(0.01)
    for stop in stops.values():
        stop()


def entry_of(training):
    """Return what Slurm's queue says of a training."""
    return Submissions(RunStore(training.store)).queued(read_queue())[identity_of(training)]


def task_of(training):
    return entry_of(training).task


def cancel_and_wait(task):
    """Cancel a task and wait for its end: a node that is lost meanwhile may leave its training to go on."""
    cancel([task])
    while read_queue()[task].is_active:
        time.sleep(0.1)


def test_a_study_whose_tasks_are_stopped_in_every_way_ends_with_the_scores_of_a_local_one(slurm, tmp_path, capsys):
    epochs = {"trainer.max_epochs": 80}
    _, alone = make_plan(tmp_path / "local", **epochs)
    _, trainings = make_plan(tmp_path / "cluster", **epochs)
    arguments = [str(tmp_path / "cluster" / "study.yaml"), "--results", str(tmp_path / "cluster" / "results")]
    assert follow(run_local(alone, jobs=2)) == []

    events = start(trainings)
    assert main(["cancel", *arguments]) == 0
    assert "Cancelled 4 tasks" in capsys.readouterr().err
    assert all(re.fullmatch(r"the task \d+_\d was cancelled", reason) for reason in follow(events))

    start(trainings).close()  # the study ends here, and its tasks go on
    events = start(trainings)
    assert len(Submissions(RunStore(trainings[0].store)).tasks()) == 2 * 4
    assert main(["status", *arguments]) == 0
    assert len(re.findall(r"running: .* seed [01]: task \d+_\d on node[12]; .*log.txt", capsys.readouterr().out)) == 4

    (lost, *_) = [training for training in trainings if entry_of(training).nodes == "node2"]
    requeued, limited, cancelled = (training for training in trainings if training is not lost)
    number = task_of(cancelled)
    close_node("node2")  # or another training may come to where one was cancelled, and be lost, too
    stop_each_in_mid_training(
        {
            requeued.folder: lambda: subprocess.run(["scontrol", "requeue", task_of(requeued)], check=True),
            limited.folder: lambda: end_time(task_of(limited), limited),
            cancelled.folder: lambda: cancel_and_wait(number),
            lost.folder: lambda: lose_node(slurm, "node2", lost),
        }
    )
    assert follow(events) == [f"the task {number} was cancelled"]
    start_node(slurm, "node2")
    assert follow(run_slurm([cancelled], "small", OPTIONS)) == []

    for training in trainings:
        assert "going on from" in RunFolder(training.folder).log.read_text()
    assert [read_note(RunFolder(training.folder))["losses"] for training in trainings] == [
        int(training is lost) for training in trainings
    ]
    assert scores(tmp_path / "cluster") == scores(tmp_path / "local")
    assert list(run_slurm([], "small", OPTIONS)) == []


def test_a_training_that_another_process_is_at_is_waited_for(slurm, tmp_path, monkeypatch):
    _, (training, *_) = make_plan(tmp_path / "study")
    training.folder.mkdir(parents=True)
    with contextlib.ExitStack() as other:
        other.enter_context(leases.hold(training.folder))
        sleep = time.sleep
        monkeypatch.setattr(time, "sleep", lambda seconds: [other.close(), sleep(seconds)])
        assert follow(run_slurm([training], "small", OPTIONS)) == []
    assert training.is_done()


def test_a_training_on_two_nodes_scores_as_two_processes_on_one(slurm, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    _, (spread, *_) = make_plan(tmp_path / "cluster", **{"trainer.num_nodes": 2})
    _, (together, *_) = make_plan(tmp_path / "local", **{"trainer.devices": 2})
    assert follow(run_slurm([spread], "small", OPTIONS)) == follow(run_local([together], jobs=1)) == []
    found, expected = (RunFolder(training.folder) for training in (spread, together))
    assert found.score("last") == expected.score("last")
    assert [found.result()[name] for name in ("nodes", "devices", "threads")] == [2, 1, OPTIONS.cpus_per_task]


def test_a_node_says_what_it_lacks(slurm, tmp_path, monkeypatch):
    _, (unseen, *_) = make_plan(slurm / "private" / "study")
    options = replace(OPTIONS, constraint="second", retries=0)
    (reason,) = follow(run_slurm([unseen], "small", options))
    assert re.match(r"node2 cannot see .*/private/study/results/runs/\.slurm/.* must lie where all nodes see", reason)

    _, (mixed, *_) = make_plan(tmp_path / "study")
    monkeypatch.setattr(slurm_submissions, "library_versions", lambda: {"lightning": "2.7.0"})
    (reason,) = follow(run_slurm([mixed], "small", OPTIONS))
    assert re.match(r"node1 has lightning 2\.\S+ and not 2\.7\.0 as where the study was submitted", reason)


@pytest.mark.parametrize(
    ("options", "settings", "says"),
    [
        ({"partition": "mian"}, {}, r"Slurm has no partition 'mian'; it has main\. Did you mean 'main'"),
        ({"gpus_per_node": 1}, {}, r"gpus_per_node is 1, and a node of the partition 'main' has 0 GPUs"),
        ({"gpus_per_node": 2}, {}, r"gpus_per_node is 2, and a training has trainer\.devices=1"),
        ({"cpus_per_task": 3}, {}, r"1 processes x 3 cores on a node, and .* has 2 cores at most"),
        ({}, {"trainer.num_nodes": 3}, r"trainer\.num_nodes is 3, and the partition 'main' has 2 nodes"),
        ({"memory_gib": 1000}, {}, r"Slurm refuses the trainings: .*node configuration is not available"),
    ],
)
def test_what_slurm_cannot_do_is_said(slurm, tmp_path, options, settings, says):
    _, trainings = make_plan(tmp_path / "study", **settings)
    with pytest.raises(UserError, match=says):
        list(run_slurm(trainings, "small", replace(OPTIONS, **options)))
