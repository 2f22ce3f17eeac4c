"""The studies of detectors: they plan, and every row takes two steps at its real input size on a few images."""

import functools

import lightning as L
import pytest
import yaml

from ablations.data_problems import data_problems
from ablations.errors import StudyError
from ablations.parsing import build, resolve
from ablations.planner import load_plan
from ablations.recipe import Recipe
from ablations.study_file import find_study
from ablations.tricks.detection_models import two_stage
from tests.ablations.tricks.case import QUIET
from tests.datamodules.detection.box_folders import coco_content, write_coco, write_voc

STUDIES = {"voc_yolov3": 416, "coco_yolov3": 416, "bccd_yolov3": 192}
"""By study: the size of its images."""

SHALLOW = {"model.detector.network.backbone.layers": [0, 0, 0, 0, 0], "model.detector.network.backbone.width": 4}
"""So that Darknet-53 does not take a minute for a row; that it is built at its size is a test of its own."""

CLASSES = {"coco_yolov3": {"model.detector.network.num_classes": 2}}
"""Where the generated folder has fewer classes than the data set."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders laid out as the data sets are, with a few generated photographs of two classes each."""
    root = tmp_path_factory.mktemp("data")
    two = [("cat", (5, 5, 40, 40)), ("dog", (10, 8, 60, 30))]
    for year in ("VOC2007", "VOC2012"):
        parts = {"trainval": {f"{year}_{n}": two[: 1 + n % 2] for n in range(4)}, "test": {f"{year}_test": two}}
        write_voc(root / "VOCdevkit" / year, parts)
    cells = [("RBC", (5, 5, 30, 30)), ("WBC", (30, 10, 60, 40)), ("Platelets", (3, 35, 12, 45))]
    write_voc(root / "bccd", {part: {f"{part}{n}": cells for n in range(4)} for part in ("train", "val", "test")})
    boxes = [{"image_id": 10 + n, "category_id": 3, "bbox": [4, 6, 30, 20]} for n in range(4)]
    write_coco(root / "coco", {"train2017": coco_content(boxes, 4), "val2017": coco_content(boxes[:2], 2)})
    return root


@pytest.fixture(scope="module")
def plan_of(folders):
    @functools.cache
    def load(name):
        few = {"data.num_workers": 0} | ({"data.val_fraction": 0.5} if name != "bccd_yolov3" else {})
        return load_plan(find_study(name), settings=few | CLASSES.get(name, {}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRICKSTACK_DATA", str(folders))
        yield load


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_plans_and_its_rows_are_what_ablate_fit_reads(plan_of, name):
    plan = plan_of(name)
    assert len(plan.rows) == len(plan.study.tricks) + 1
    for row in plan.rows:
        assert resolve(yaml.safe_load(yaml.safe_dump(row.recipe))) == row.recipe


def test_the_paper_trains_darknet_53_and_the_gains_stand_beside_ours(plan_of):
    plan = plan_of("voc_yolov3")
    network = build(plan.rows[0].recipe).module.detector.network
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(61.6e6, rel=0.01)
    assert [row.published for row in plan.rows[1:]] == [15.99, 0.56, 0.4, 0.4, 0.4, 1.5]
    assert [row.trick for row in plan.rows if row.unconfirmed] == ["box_augmentation"]


def bccd_with(settings):
    return load_plan(find_study("bccd_yolov3"), settings=settings)


def test_classes_that_the_detector_does_not_know_are_listed_before_anything_trains(plan_of):
    plan = bccd_with({"model.detector.network.num_classes": 2})
    says = "num_classes is 2, but the data has 3 classes: Platelets, RBC, WBC. Set it to 3, or correct the data."
    assert {problem for row in plan.rows for problem in plan.misfits[row.index]} == {f"model.detector.network.{says}"}


def test_torchvisions_detectors_need_a_class_for_the_background(plan_of):
    base = plan_of("bccd_yolov3").rows[0].recipe
    recipe = Recipe(base)
    two_stage(recipe)
    recipe.set("model.detector.network.num_classes", 3)
    (problem,) = data_problems(resolve(recipe.config), [0])
    assert (
        "num_classes is 3, but the data has 3 classes and the background: Platelets, RBC, WBC. Set it to 4" in problem
    )


def test_a_network_of_an_impossible_input_size_is_refused_before_anything_trains(plan_of):
    with pytest.raises(StudyError, match=r"row 'base': YOLOv3: input_size is 100; it must be a multiple of 32"):
        bccd_with({"model.detector.network.input_size": 100})


class StopAfterTwoSteps(L.Callback):
    """Ends a run whose planned length stays what it is, since schedules and warm-up follow from it."""

    def __init__(self):
        self.sizes, self.losses = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))
        self.sizes.append(batch[0].shape[-1])
        trainer.should_stop = trainer.global_step == 2


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_takes_two_steps_at_its_input_size(plan_of, name):
    losses = []
    for row in plan_of(name).rows:
        recipe = Recipe(row.recipe)
        settings = {"data.batch_size": 1, "trainer.accelerator": "cpu"} | SHALLOW
        for path, value in settings.items():
            recipe.set(path, value)
        L.seed_everything(0, verbose=False)
        parts, watch = build(recipe.config), StopAfterTwoSteps()
        callbacks = [*(parts.trainer_arguments["callbacks"] or []), watch]
        trainer = L.Trainer(**{**parts.trainer_arguments, **QUIET, "limit_val_batches": 0, "callbacks": callbacks})
        trainer.fit(parts.module, datamodule=parts.datamodule)
        assert trainer.global_step == 2
        assert watch.sizes == [STUDIES[name]] * 2
        losses.append(watch.losses)
    assert all(loss > 0 for pair in losses for loss in pair)
