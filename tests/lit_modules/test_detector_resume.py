"""A detector's training that was interrupted ends as one that was not."""

from functools import partial

import pytest
import torch

from callbacks import EpochCheckpoint, MultiScale, ReseedEachEpoch
from datamodules import DetectionMixUp, DigitScenes, Mosaic
from lit_modules import LitDetector
from tests.helpers.crashes import CrashInValidation
from tests.helpers.one_weight import CrashError
from tests.lit_modules.test_detector import FROZEN, SIZE, Scenes, Scripted, make_trainer, make_yolo


def fit(folder, *callbacks, resume=False):
    torch.manual_seed(3)
    scenes = {"train_scenes": 8, "val_scenes": 2, "test_scenes": 2, "input_size": SIZE, "batch_size": 4}
    mixes = [DetectionMixUp(), Mosaic()]
    data = DigitScenes(**scenes, largest_digit=28, mixes=mixes, mix_off_epochs=1)
    module = LitDetector(make_yolo(classes=10), partial(torch.optim.SGD, lr=1e-3, momentum=0.9))
    file = folder / "last.ckpt"
    own = [MultiScale([32, 64, 96], every_n_batches=1, seed=1), ReseedEachEpoch(3), EpochCheckpoint(file, 0)]
    trainer = make_trainer(
        max_epochs=4, callbacks=[*own, *callbacks], num_sanity_val_steps=0, enable_checkpointing=True
    )
    trainer.fit(module, datamodule=data, ckpt_path=file if resume else None, weights_only=True)
    return module.state_dict(), {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_a_training_that_crashed_goes_on_to_the_same_weights(tmp_path):
    weights, metrics = fit(tmp_path / "straight")
    with pytest.raises(CrashError):
        fit(tmp_path / "crashed", CrashInValidation(epoch=2))
    resumed, again = fit(tmp_path / "crashed", resume=True)
    assert {"train/loss", "train/loss_objectness", "train/loss_class", "val/map"} <= metrics.keys()
    assert again == metrics
    assert all(torch.equal(resumed[name], tensor) for name, tensor in weights.items())


def test_a_resumed_epoch_averages_each_part_over_all_of_its_batches():
    module = LitDetector(Scripted(), FROZEN)
    for place, batch in enumerate(Scenes((5, 2, 1)).batches):
        if place == 2:
            checkpoint = {}
            module.on_save_checkpoint(checkpoint)
            module = LitDetector(Scripted(), FROZEN)
            module.on_load_checkpoint(checkpoint)
        module.training_step((batch["images"], {}), place)
    means = {name: mean.compute().item() for name, mean in module.train_parts.items()}
    assert means == pytest.approx({"one": (25 + 4 + 1) / 8, "two": 10})
    assert module.train_loss.compute().item() == pytest.approx(30 / 8 + 10)
