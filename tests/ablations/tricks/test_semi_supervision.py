"""Tricks on unlabeled images: how they stack, and what reaches the callbacks."""

import lightning as L
import pytest
import torch

from ablations.parsing import build, resolve_edits
from tests.ablations.tricks.case import QUIET, edited
from tests.helpers.recipes import digits_recipe


@pytest.mark.parametrize("names", [["mean_teacher", "pseudo_labels"], ["pseudo_labels", "mean_teacher"]])
def test_teacher_and_pseudo_labels_stack_with_averages_mixing_and_pruning(names: list[str]) -> None:
    base = recipe = digits_recipe(data__batch_size=20)
    arguments = {"pseudo_labels": {"threshold": 0.05, "start_epoch": 1}}
    for name in ("ema", "mixup", "label_smoothing", *names, "prune_large"):
        recipe = edited(name, recipe, **arguments.get(name, {}))
    parts = build(resolve_edits(base, recipe))
    trainer = L.Trainer(**{**parts.trainer_arguments, **QUIET})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    assert trainer.global_step == 10
    assert trainer.callback_metrics["train/pseudo_labels"] > 0
    assert trainer.callback_metrics["train/consistency"] > 0
    for callback in parts.trainer_arguments["callbacks"]:
        if hasattr(callback, "stored_weights"):
            (state,) = callback.stored_weights(parts.module).values()
            zeros = {name: int((tensor == 0).sum()) for name, tensor in state.items() if name.endswith("conv1.weight")}
            own = {name: int((parts.module.state_dict()[name] == 0).sum()) for name in zeros}
            assert zeros == own
            assert sum(zeros.values()) > 0


def test_arguments_reach_the_callbacks() -> None:
    base = digits_recipe()
    recipe = edited("mean_teacher", base, decay=0.9, weight=3.0, ramp_up_epochs=1.0)
    recipe = edited("pseudo_labels", recipe, threshold=0.8, start_epoch=1, every_n_epochs=2)
    teacher, labels = build(resolve_edits(base, recipe)).trainer_arguments["callbacks"]
    assert (teacher.decay, teacher.weight, teacher.ramp_up_epochs) == (0.9, 3.0, 1.0)
    assert (labels.threshold, labels.start_epoch, labels.every_n_epochs) == (0.8, 1, 2)


def test_the_teacher_is_what_the_recipe_scores() -> None:
    base = digits_recipe()
    parts = build(resolve_edits(base, edited("mean_teacher", base)))
    (teacher,) = parts.trainer_arguments["callbacks"]
    trainer = L.Trainer(**{**parts.trainer_arguments, **QUIET, "limit_train_batches": 2})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    assert list(teacher.stored_weights(parts.module)) == [teacher.provides] == ["teacher"]
    (tested,) = trainer.test(parts.module, datamodule=parts.datamodule, verbose=False)
    parts.module.load_state_dict(teacher.stored_weights(parts.module)["teacher"])
    probabilities = parts.module.predictions["probabilities"]
    (alone,) = L.Trainer(accelerator="cpu", devices=1, **QUIET).test(
        parts.module, datamodule=parts.datamodule, verbose=False
    )
    assert tested == alone
    assert torch.equal(parts.module.predictions["probabilities"], probabilities)
