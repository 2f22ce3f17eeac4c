"""Trainings that take several processes: equal to one process with the joined batch, and clear when they cannot be."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ablations import workers
from ablations.environment import version_differences
from ablations.errors import RecipeError, UserError
from ablations.executors import Finished, default_jobs, run_local
from ablations.plan import Scoring, Training
from ablations.planner import load_plan
from ablations.process_group import Ranks, joined, started_as
from ablations.processes import Processes, check_machine, process_problems, processes_of
from ablations.recipe import Recipe
from ablations.results import gather
from ablations.results import write_study as write_results
from ablations.store import RunFolder, RunStore
from tests.ablations.tricks.case import base_recipe
from tests.helpers.recipes import QUICK, write_study

ON_TWO = {"trainer.devices": 2, "trainer.strategy": "ddp", "trainer.sync_batchnorm": True}
SHORT = {"trainer.max_epochs": 2, "trainer.check_val_every_n_epoch": 1}
TASKS = {
    "digits": ({"model.network.width": 4, "model.optimizer.lr": 0.02}, "data.batch_size", 25),
    "digit_scenes": (
        {"model.optimizer.lr": 1e-4, "data.train_scenes": 16, "data.val_scenes": 7, "data.test_scenes": 9},
        "data.batch_size",
        4,
    ),
    "digits_retrieval": ({"model.network.width": 4, "model.optimizer.lr": 0.02}, "data.identities_per_batch", 2),
}
"""By base of each task: what makes it small, what says how large a batch is, and its value with two processes."""


def make_recipe(base, settings):
    """Return a base with settings."""
    recipe = Recipe(base_recipe(base))
    for path, value in settings.items():
        recipe.set(path, value)
    return recipe.config


def make_training(folder, recipe):
    return Training("key", 0, recipe, {"last": Scoring("last", recipe["inference"])}, folder / "key" / "seed-0")


def run(*trainings):
    """Run trainings at a time and return the reasons of failures by their order."""
    reasons = {
        event.training.folder: event.reason for event in run_local(list(trainings), 1) if isinstance(event, Finished)
    }
    return [reasons[training.folder] for training in trainings]


def compare(one, two, tolerance):
    """Compare the weights and the metrics of two trainings."""
    found, expected = (RunFolder(training.folder) for training in (two, one))
    weights, wanted = (load_file(folder.weights("last")) for folder in (found, expected))
    assert weights.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(
            weights[name], value, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert found.score("last") == pytest.approx(expected.score("last"), abs=tolerance)
    predictions = [np.load(folder.predictions("last")) for folder in (found, expected)]
    for name in predictions[0]:  # of every test image once, in order
        assert predictions[0][name].shape == predictions[1][name].shape


@pytest.mark.parametrize("base", TASKS)
def test_two_processes_train_as_one_with_the_joined_batch(base, tmp_path):
    settings, size, each = TASKS[base]
    one = make_training(tmp_path / "one", make_recipe(base, {**SHORT, **settings, size: 2 * each}))
    two = make_training(tmp_path / "two", make_recipe(base, {**SHORT, **settings, size: each, **ON_TWO}))
    assert run(one, two) == ["", ""]
    compare(one, two, 2e-3)
    result = RunFolder(two.folder).result()
    assert (result["nodes"], result["devices"]) == (1, 2)
    curves = [np.genfromtxt(RunFolder(training.folder).metrics, delimiter=",", names=True) for training in (one, two)]
    assert curves[0].dtype.names == curves[1].dtype.names and len(curves[1]) == 2  # written by one process
    for name in curves[0].dtype.names:
        np.testing.assert_allclose(curves[1][name], curves[0][name], rtol=1e-2, atol=2e-3, err_msg=name)


def test_rows_with_averages_snapshots_and_a_search_score_the_same_on_two_processes(tmp_path):
    """The search runs alone either way; what callbacks keep must not depend on how many processes feed them."""
    tricks = ["ema", {"swa": {"start_fraction": 0.5}}, "early_stopping", {"snapshot_ensemble": {"cycles": 2}}]
    settings = {**QUICK, "trainer.max_epochs": 4, "trainer.check_val_every_n_epoch": 1, "model.optimizer.lr": 0.02}
    scores = []
    for name, processes in (("one", {"data.batch_size": 50}), ("two", {"data.batch_size": 25, **ON_TWO})):
        folder = tmp_path / name
        folder.mkdir()
        study = write_study(folder, tricks=tricks, seeds=1, mode="one-at-a-time", set={**settings, **processes})
        plan, store = load_plan(study), RunStore(folder / "runs")
        assert set(run(*plan.trainings(store))) == {""}
        write_results(folder / "small", plan, store, {})
        gather(folder / "small", store)
        scores.append(pd.read_csv(folder / "small" / "scores.csv"))
    assert list(scores[0]["status"]) == list(scores[1]["status"]) == ["done"] * 5
    metrics = list(scores[0].select_dtypes("float").columns)
    assert {"test/accuracy", "test/loss"} <= set(metrics)
    np.testing.assert_allclose(scores[1][metrics], scores[0][metrics], rtol=1e-2, atol=5e-3)


ENDED_WHERE_EXCEPTIONS_ARE_LOST = """
import os, signal, sys, weakref
from pathlib import Path
from ablations.leases import hold
from ablations.plan import Training
from ablations.processes import end_process

training = Training("key", 0, {}, {}, Path(sys.argv[1]))
signal.signal(signal.SIGTERM, lambda number, _: end_process(training, number, "interrupted"))

class Thing: ...

with hold(training.folder):
    thing = Thing()
    reference = weakref.ref(thing, lambda _: (os.kill(os.getpid(), signal.SIGTERM), [index for index in range(1000)]))
    del thing
print("went on")
"""


def test_a_signal_ends_a_process_also_where_python_loses_exceptions(tmp_path):
    command = [sys.executable, "-c", ENDED_WHERE_EXCEPTIONS_ARE_LOST, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "", "")
    status = RunFolder(tmp_path).status()
    assert (status["state"], status["reason"]) == ("interrupted", "stopped by SIGTERM")
    (lease,) = tmp_path.glob("lease-*")
    assert lease.read_bytes().startswith(b"released")


@pytest.mark.parametrize(("sign", "ranks"), [(signal.SIGTERM, (0, 1)), (signal.SIGTERM, (1,)), (signal.SIGKILL, (1,))])
def test_processes_that_were_ended_in_mid_training_go_on_together(tmp_path, monkeypatch, sign, ranks, undisturbed_pair):
    processes = []

    def start(*arguments, **settings):
        processes.append(workers_start(*arguments, **settings))
        return processes[-1]

    workers_start = workers.start
    monkeypatch.setattr(workers, "start", start)
    training = replace(make_training(tmp_path, pair_recipe()), checkpoint_seconds=0.0)
    folder = RunFolder(training.folder)

    def end() -> None:
        while not folder.checkpoint.exists():
            if ended.wait(0.01):
                return
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)  # so that none ends before
        for rank in ranks:
            os.kill(processes[rank].pid, sign)
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)

    ended, harm = threading.Event(), threading.Thread(target=end)
    harm.start()
    (reason,) = run(training)
    ended.set()
    harm.join()
    assert sign.name in reason
    assert [process.exitcode is None for process in processes] == [False, False]
    assert run(training) == [""]
    assert "going on from" in folder.log.read_text()
    assert folder.score("last") == undisturbed_pair.score("last")
    expected = load_file(undisturbed_pair.weights("last"))
    assert all(torch.equal(value, expected[name]) for name, value in load_file(folder.weights("last")).items())


def pair_recipe():
    return make_recipe(
        "digits", {**SHORT, **TASKS["digits"][0], "trainer.max_epochs": 12, **ON_TWO, "data.batch_size": 25}
    )


@pytest.fixture(scope="module")
def undisturbed_pair(tmp_path_factory):
    training = make_training(tmp_path_factory.mktemp("undisturbed"), pair_recipe())
    assert run(training) == [""]
    return RunFolder(training.folder)


def test_the_reason_of_the_process_that_failed_is_kept(tmp_path):
    crowded = make_training(tmp_path, make_recipe("digits", {"data.batch_size": 500, **ON_TWO}))
    (reason,) = run(crowded)
    assert "images do not fill one batch of batch_size=500 on each of 2 process(es). Set batch_size to" in reason
    assert RunFolder(crowded.folder).status()["reason"] == reason


@pytest.mark.parametrize(
    ("trainer", "says"),
    [
        ({"devices": -1}, "trainer.devices is -1; it must be a number of devices from 1 up"),
        ({"devices": [0, 1]}, r"trainer.devices is \[0, 1\]; it must"),
        ({"num_nodes": 0}, "trainer.num_nodes is 0; it must be a number of nodes from 1 up"),
        ({"strategy": "fsdp"}, "trainer.strategy is 'fsdp'; it must be auto or ddp or ddp_find_unused_parameters_true"),
    ],
)
def test_processes_that_cannot_be_started_are_a_problem(trainer, says):
    (problem,) = process_problems({"devices": 1, "num_nodes": 1, "strategy": "auto", **trainer})
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(problem)


def test_the_processes_of_a_recipe():
    assert process_problems({"devices": "auto", "num_nodes": 1, "strategy": "auto"}) == []
    assert processes_of({"devices": "auto", "num_nodes": 1}) == Processes(1, 1)
    assert processes_of({"devices": "4", "num_nodes": 2}).count == 8
    assert str(Processes(2, 1)) == "2 nodes x 1 device"


@pytest.mark.parametrize(
    ("processes", "executor", "gpus", "says"),
    [
        (Processes(2, 1), "local", 0, "trainer.num_nodes is 2, and this is one machine"),
        (Processes(1, 2), "inline", 0, "trainer.devices is 2, and --executor inline trains in this process alone"),
        (Processes(1, 4), "local", 2, "trainer.devices is 4, and this machine has 2 GPUs. Set it to at most 2"),
    ],
)
def test_what_this_machine_cannot_run_is_said(processes, executor, gpus, says):
    training = SimpleNamespace(processes=processes, recipe={"trainer": {"accelerator": "auto"}})
    with pytest.raises(UserError, match=says):
        check_machine([training], executor, gpus)
    check_machine([SimpleNamespace(processes=Processes(1, 2), recipe={"trainer": {"accelerator": "cpu"}})], "local", 1)


def test_a_gpu_that_is_not_there_is_said_before_anything_trains():
    training = SimpleNamespace(processes=Processes(), recipe={"trainer": {"accelerator": "gpu"}})
    with pytest.raises(UserError, match="accelerator is 'gpu', and torch finds no GPU"):
        check_machine([training], "local", 0)
    check_machine([training], "local", 1)


def test_trainings_with_several_devices_leave_room_for_each_other():
    assert default_jobs(8, 2) == 4
    assert default_jobs(4, 8) == 1
    assert default_jobs(0, 1000) == 1


def test_processes_know_their_place(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert started_as() is None
    for name, value in {"SLURM_PROCID": 5, "SLURM_LOCALID": 1, "SLURM_NTASKS": 8, "SLURM_NNODES": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert started_as() == Ranks(5, 1, 8, 4)
    for name, value in {"RANK": 3, "LOCAL_RANK": 1, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert started_as() == Ranks(3, 1, 4, 2)  # torchrun inside a Slurm job
    with pytest.raises(RecipeError, match=r"asks for 1 node x 2 devices, but 4 process.* were started, 2 on a node"):
        joined(Processes(1, 2), "cpu").__enter__()
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert started_as() is None


def test_versions_that_differ_are_named():
    assert version_differences({"torch": "2.11"}, {"torch": "2.11", "numpy": "2"}) == ""
    assert version_differences({"torch": "2.11", "numpy": "2"}, {"torch": "2.15"}) == (
        "torch 2.15 and not 2.11, numpy None and not 2"
    )
