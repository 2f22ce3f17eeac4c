"""The studies at the scale of papers: they plan, every row parses and takes two steps at its real input size."""

import lightning as L
import pytest
import torch
import yaml

from ablations.parsing import build, resolve
from ablations.planner import load_plan
from ablations.recipe import Recipe
from ablations.study_file import find_study
from tests.ablations.tricks.case import QUIET
from tests.datamodules.image_files import smooth_pixels, write_image

STUDIES = ("imagenet_resnet50", "imagenet_torchvision")
SMALL = {"data.num_workers": 0, "data.val_size": 2, "data.eval_batch_size": 2}
"""What a handful of images asks for, on a machine without a GPU."""


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A folder laid out as ImageNet is, with two classes of a few generated photographs."""
    root = tmp_path_factory.mktemp("data")
    for part, count in (("train", 4), ("val", 2)):
        for label in range(2):
            for number in range(count):
                pixels = smooth_pixels(250, 300, seed=10 * label + number)
                write_image(root / "imagenet" / part / f"n0000000{label}" / f"{part}_{number}.JPEG", pixels)
    return root


@pytest.fixture
def plan_of(imagenet, monkeypatch):
    monkeypatch.setenv("TRICKSTACK_DATA", str(imagenet))
    return lambda name: load_plan(find_study(name), settings=SMALL)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_plans_and_its_rows_are_what_ablate_fit_reads(plan_of, name):
    plan = plan_of(name)
    assert len(plan.rows) == len(plan.study.tricks) + 1
    assert [row.index for row in plan.rows if row.published is None] == [0]
    for row in plan.rows:
        assert resolve(yaml.safe_load(yaml.safe_dump(row.recipe))) == row.recipe


def rows(name):
    return [(name, index) for index in range(len(yaml.safe_load(find_study(name).read_text())["tricks"]) + 1)]


class StopAfterTwoSteps(L.Callback):
    """Ends a run whose planned length stays what it is, since schedules and warm-up follow from it."""

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step == 2


@pytest.mark.parametrize(("name", "index"), [case for name in STUDIES for case in rows(name)])
def test_a_row_takes_two_steps_at_its_input_size(plan_of, tmp_path, name, index):
    recipe = Recipe(plan_of(name).rows[index].recipe)
    sizes = []
    for path, value in {"data.batch_size": 2, "model.network.num_classes": 2, "trainer.accelerator": "cpu"}.items():
        recipe.set(path, value)
    if recipe.get("trainer.precision") == "16-mixed":
        recipe.set("trainer.precision", "bf16-mixed")  # fp16 is for GPUs
    for mix in recipe.get("data.mixes"):
        mix["init_args"]["num_classes"] = 2
    if distillation := recipe.get("model").get("init_args").get("distillation"):
        distillation["init_args"]["network"]["init_args"]["num_classes"] = 2
        torch.save(build(recipe.config).module.network.state_dict(), tmp_path / "teacher.pth")
        distillation["init_args"]["teacher_weights"] = str(tmp_path / "teacher.pth")
    L.seed_everything(0, verbose=False)
    parts = build(recipe.config)
    parts.module.network.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
    callbacks = [*(parts.trainer_arguments["callbacks"] or []), StopAfterTwoSteps()]
    trainer = L.Trainer(**{**parts.trainer_arguments, **QUIET, "limit_val_batches": 1, "callbacks": callbacks})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    assert trainer.global_step == 2
    trained_at = 176 if name == "imagenet_torchvision" and index >= 9 else 224
    assert sizes == [(trained_at, trained_at)] * 2 + [(224, 224)]


def test_the_average_of_torchvision_decays_as_its_script_makes_it(plan_of):
    recipe = Recipe(plan_of("imagenet_torchvision").rows[-1].recipe)
    (average,) = (part["init_args"] for part in recipe.get("trainer.callbacks") if part["class_path"].endswith("EMA"))
    scale = recipe.get("data.batch_size") * average["every_n_steps"] / recipe.get("trainer.max_epochs")
    assert average["decay"] == pytest.approx(1 - (1 - 0.99998) * scale, abs=1e-5)
