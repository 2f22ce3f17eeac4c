"""Trainings that take several processes: equal to one process with the joined batch, and clear when they cannot be."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ablations.environment import version_differences
from ablations.errors import RecipeError, UserError
from ablations.executors import Finished, default_jobs, run_local
from ablations.plan import Scoring, Training
from ablations.process_group import Ranks, joined, started_as
from ablations.processes import Processes, check_machine, process_problems, processes_of
from ablations.recipe import Recipe
from ablations.store import RunFolder
from tests.ablations.tricks.case import base_recipe

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
