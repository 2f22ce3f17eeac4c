"""What goes wrong with LightningCLI's runs, and does not with ours; each test is named after its entry in the list."""

import contextlib
import os
import signal

import lightning as L
import pytest
import torch

from ablations.failures import InterruptedTrainingError
from ablations.parsing import build
from ablations.planner import single_training
from ablations.recipe import Recipe
from ablations.store import RunFolder, RunStore
from ablations.training import run_training
from ablations.yaml_file import dump_yaml
from tests.ablations.tricks.case import edited, train
from tests.helpers.command_server import run_ablate
from tests.helpers.recipes import digits_recipe


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(digits_recipe()))
    return path


def test_c1_a_second_run_in_the_same_folder_works_and_leaves_nothing_there(tmp_path, recipe):
    for seed in (1, 2):
        assert run_ablate(tmp_path, "fit", recipe, "--seed", seed).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml", "results"]


def test_c3_a_changed_setting_never_goes_on_from_a_run_that_had_another(recipe, tmp_path):
    store = RunStore(tmp_path / "runs")
    trainings = [single_training(recipe, settings, 0, store) for settings in ({}, {"model.optimizer.lr": 0.5})]
    assert trainings[0].folder != trainings[1].folder
    assert Recipe(trainings[1].recipe).get("model.optimizer.lr") == 0.5


def test_c4_a_checkpoint_holds_no_arguments_of_classes(recipe, tmp_path):
    training = single_training(recipe, {}, 0, RunStore(tmp_path / "runs"))
    training.recipe["trainer"]["callbacks"] = [{"class_path": f"{__name__}.CopyCheckpoint"}]
    run_training(training)
    checkpoint = torch.load(training.folder / "copy.ckpt", weights_only=True)
    assert not [key for key in checkpoint if "hyper" in key or "hparams" in key]


class CopyCheckpoint(L.Callback):
    """Saves a checkpoint that stays, beside the training's own, which goes when it is done."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(f"{trainer.default_root_dir}/copy.ckpt")


def test_c5_groups_of_parameters_and_a_schedule_by_steps_come_from_a_recipe():
    recipe = edited("cosine_schedule", edited("no_bias_decay"))
    module = train(recipe)
    (optimizer,) = module.trainer.optimizers
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-3, 0.0]
    assert module.trainer.lr_scheduler_configs[0].interval == "step"
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)
    assert build(recipe).module.parameter_groups.bias_decay is False


class Terminate(L.Callback):
    """Sends the process what a cluster sends to a job whose time is over."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        os.kill(os.getpid(), signal.SIGTERM)


def test_l_sig_a_training_that_is_terminated_is_not_done(recipe, tmp_path):
    training = single_training(recipe, {"trainer.max_epochs": 50}, 0, RunStore(tmp_path / "runs"))
    training.recipe["trainer"]["callbacks"] = [{"class_path": f"{__name__}.Terminate"}]
    with contextlib.suppress(SystemExit, InterruptedTrainingError):  # whichever it is: the store decides
        run_training(training)
    assert RunFolder(training.folder).result() is None
    assert not training.is_done()
