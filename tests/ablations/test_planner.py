import itertools
import re
import sys

import pytest
import yaml
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ablations import keys, registry
from ablations.component_problems import component_problems
from ablations.errors import RecipeError, StudyError
from ablations.keys import scoring_of, training_key
from ablations.parsing import resolve, resolve_edits
from ablations.plan import row_changes
from ablations.planner import load_plan, single_training
from ablations.recipe import Recipe
from ablations.registry import Trick, tricks
from ablations.store import RunStore
from ablations.study_file import HERE, find_study
from tests.helpers.recipes import digits_recipe, write_study

SHIFTS = {"tta_crops": {"padding": 1}}
OWN_CODE = """
import torch
from ablations.registry import trick

class MyLoss(torch.nn.CrossEntropyLoss):
    pass

@trick(tasks={"classification"})
def my_loss(recipe, smoothing: float = 0.2) -> None:
    '''Use a loss of my own.'''
    recipe.swap("model.loss", "my_tricks_for_a_test.MyLoss", label_smoothing=smoothing)
"""


def plan_of(folder, **changes):
    return load_plan(write_study(folder, **changes))


def problems(folder, **changes):
    with pytest.raises(StudyError) as error:
        plan_of(folder, **changes)
    return str(error.value)


def test_each_row_of_a_stack_adds_one_trick_to_the_row_before(tmp_path):
    plan = plan_of(tmp_path)
    assert [(row.name, row.compared_to, row.sign) for row in plan.rows] == [
        ("base", None, 1),
        ("+ cosine_schedule", 0, 1),
        ("+ label_smoothing", 1, 1),
    ]
    assert [change.path for change in row_changes(plan, plan.rows[1])] == ["model.schedule"]
    assert [str(change) for change in row_changes(plan, plan.rows[2])] == ["model.loss.label_smoothing: 0.0 -> 0.1"]


def test_one_at_a_time_compares_every_row_with_the_base(tmp_path):
    plan = plan_of(tmp_path, mode="one-at-a-time")
    assert [(row.name, row.compared_to) for row in plan.rows[1:]] == [
        ("+ cosine_schedule", 0),
        ("+ label_smoothing", 0),
    ]
    assert [change.path for change in row_changes(plan, plan.rows[2])] == ["model.loss.label_smoothing"]


def test_leave_one_out_takes_each_trick_from_the_whole(tmp_path):
    plan = plan_of(tmp_path, mode="leave-one-out")
    assert [(row.name, row.compared_to, row.sign) for row in plan.rows] == [
        ("all tricks", None, 1),
        ("- cosine_schedule", 0, -1),
        ("- label_smoothing", 0, -1),
    ]
    assert [change.path for change in row_changes(plan, plan.rows[1])] == ["model.schedule"]


def test_the_modes_share_the_trainings_that_they_have_in_common(tmp_path):
    keys = {mode: [row.key for row in plan_of(tmp_path, mode=mode).rows] for mode in ("stack", "leave-one-out")}
    assert keys["stack"][2] == keys["leave-one-out"][0]
    assert keys["stack"][1] == keys["leave-one-out"][2]


def test_rows_that_differ_in_inference_share_their_trainings(tmp_path):
    plan = plan_of(tmp_path, tricks=["label_smoothing", SHIFTS], seeds=3)
    assert plan.rows[1].key == plan.rows[2].key
    assert plan.rows[1].inference != plan.rows[2].inference
    trainings = plan.trainings(RunStore(tmp_path))
    assert len(trainings) == 6
    assert {len(training.scorings) for training in trainings} == {1, 2}


def test_rows_that_differ_in_an_observer_share_a_training_that_has_it(tmp_path):
    watch = {"watch": {"add": {"trainer.callbacks": {"class_path": "callbacks.CostMonitor"}}}}
    warm = {"linear_warmup": {"epochs": 1}}
    plan = plan_of(tmp_path, tricks=[watch, warm])
    assert plan.rows[0].key == plan.rows[1].key != plan.rows[2].key
    (training,) = {training.key: training for training in plan.trainings(RunStore(tmp_path), rows=[0])}.values()
    assert [callback["class_path"] for callback in training.recipe["trainer"]["callbacks"]] == ["callbacks.CostMonitor"]


def test_the_key_holds_what_decides_the_weights_and_nothing_else():
    key = training_key(digits_recipe())
    assert training_key(digits_recipe(trainer__enable_progress_bar=False)) == key
    assert training_key({**digits_recipe(), "seed_everything": 7}) == key
    changed = [
        digits_recipe(trainer__max_epochs=3),
        digits_recipe(model__optimizer__lr=0.2),
        digits_recipe(data__labels_per_class=5),
        digits_recipe(trainer__precision="bf16-mixed"),
    ]
    assert len({key, *(training_key(recipe) for recipe in changed)}) == 5


def test_the_key_holds_the_content_of_the_data_set(monkeypatch):
    from datamodules import Digits

    before = training_key(digits_recipe(data__eval_batch_size=100))
    monkeypatch.setattr(Digits, "fingerprint", lambda self: "another")
    assert training_key(digits_recipe(data__eval_batch_size=101)) != before


def test_a_score_is_named_by_its_weights_and_a_hash_of_how_it_was_got():
    def name(padding=None, decay=None):
        recipe = digits_recipe()
        recipe["inference"]["views"] = padding and {"padding": padding}
        if decay:
            recipe["inference"]["weights"] = "ema"
            recipe["trainer"]["callbacks"] = [{"class_path": "callbacks.EMA", "init_args": {"decay": decay}}]
        return scoring_of(recipe)[0]

    assert name() == "last"
    assert name(padding=1).startswith("last-")
    assert name(decay=0.9).startswith("ema-")
    assert len({name(), name(1), name(2), name(decay=0.9), name(decay=0.5), name(1, 0.5)}) == 6


def test_a_plugin_brings_tricks_and_classes_and_its_code_belongs_to_the_key(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_TRICKS", tricks())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    plugin = tmp_path / "my_tricks_for_a_test.py"
    plugin.write_text(OWN_CODE)
    plan = plan_of(tmp_path, plugins=[plugin.name], tricks=["my_loss"])
    assert plan.rows[1].text == "Use a loss of my own."
    before = plan.rows[1].key
    plugin.write_text(OWN_CODE + "\n# changed\n")
    keys._user_code.cache_clear()
    again = plan_of(tmp_path, plugins=[plugin.name], tricks=["my_loss"])
    assert again.rows[1].key != before
    assert again.rows[0].key == plan.rows[0].key


@pytest.mark.parametrize(
    ("folder", "belongs"), [("project", True), ("site-packages", False), ("python3/dist-packages", False)]
)
def test_the_code_of_a_library_is_no_part_of_a_key_wherever_it_is_installed(tmp_path, monkeypatch, folder, belongs):
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.syspath_prepend(tmp_path / folder)
    name = f"installed_in_{folder.replace('/', '_').replace('-', '_')}"
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / f"{name}.py").write_text("class Thing: ...\n")
    assert (keys._user_code(f"{name}.Thing") is not None) is belongs


def test_an_inline_trick_edits_with_every_verb(tmp_path):
    inline = {
        "mine": {
            "text": "All verbs at once.",
            "set": {"model.network.width": 8},
            "swap": {"model.optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}},
            "add": {"trainer.callbacks": {"class_path": "callbacks.CostMonitor"}},
            "edit": {"LinearWarmup": {"epochs": 0.5}},
            "revises": ["trainer.callbacks.LinearWarmup.epochs"],
        }
    }
    plan = plan_of(tmp_path, tricks=[{"linear_warmup": {"epochs": 1}}, inline])
    assert plan.rows[2].text == "All verbs at once."
    assert [change.path for change in row_changes(plan, plan.rows[2])] == [
        "trainer.callbacks.LinearWarmup.epochs",
        "trainer.callbacks.CostMonitor",
        "model.network.width",
        "model.optimizer",
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tricks": ["label_smothing"]}, "there is no trick 'label_smothing'. Did you mean 'label_smoothing'?"),
        ({"tricks": ["label_smoothing", {"again": {"set": {"model.loss.label_smoothing": 0.2}}}]}, "both set"),
        ({"tricks": [{"label_smoothing": {"epsilon": 0.0}}]}, "'label_smoothing' changes nothing"),
        ({"tricks": [{"label_smoothing": {"epsilno": 0.2}}]}, "Its arguments are: epsilon: float | None = None"),
        ({"tricks": [{"label_smoothing": {"epsilon": "much"}}]}, "model.loss.label_smoothing: must be float, not"),
        ({"tricks": [{"mixup": {"set": {"data.normalize": True}}}]}, "has the name of a registered trick"),
        ({"tricks": [{"bad": {"set": {"model.netwrk.width": 8}}}]}, "model has no 'netwrk'. Did you mean 'network'?"),
        ({"tricks": [{"bad": {"swap": {"model.loss": {"class_path": "torch.nn.Nothing"}}}}]}, "cannot be imported"),
        ({"tricks": [{"bad": {"swap": {"model.loss": 3}}}]}, "needs a component"),
        ({"set": {"trainer.max_epoch": 2}}, "trainer has no 'max_epoch'. Did you mean 'max_epochs'?"),
        ({"set": {"trainer.max_epochs": "many"}}, "trainer.max_epochs: must be int, not many"),
        ({"set": {"trainer.devices": -1}}, "trainer.devices is -1; it must be a number of devices from 1 up"),
        ({"set": {"trainer.strategy": "fsdp"}}, "trainer.strategy is 'fsdp'; it must be auto or ddp"),
        ({"base": "nothing"}, "cannot be read"),
        ({"plugins": ["nothing.py"]}, "does not exist"),
        ({"set": {"data.labels_per_class": 1000}}, "labels_per_class"),
        (
            {"set": {"model.schedule": {"class_path": "torch.optim.lr_scheduler.ExponentialLR"}}},
            "model.schedule: the argument gamma of torch.optim.lr_scheduler.ExponentialLR is missing.",
        ),
        (
            {"set": {"model.schedule": {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau"}}},
            "model.schedule: the schedule ReduceLROnPlateau does not say which metric it waits for.",
        ),
        (
            {"set": {"model.schedule": {"class_path": "torch.optim.lr_scheduler.ChainedScheduler"}}},
            "model.schedule: ChainedScheduler takes other schedules, not the optimizer.",
        ),
    ],
)
def test_a_wrong_study_is_refused_before_anything_trains(tmp_path, changes, says):
    assert says in problems(tmp_path, **changes)


def test_a_trick_for_another_task_is_refused(tmp_path, monkeypatch):
    only_boxes = Trick("only_boxes", frozenset({"detection"}), lambda recipe: None)
    monkeypatch.setattr("ablations.planner.tricks", lambda: {"only_boxes": only_boxes})
    assert "is for detection, not for classification" in problems(tmp_path, tricks=["only_boxes"])


def test_all_problems_of_the_tricks_are_told_at_once(tmp_path):
    text = problems(tmp_path, tricks=["nothing", {"label_smoothing": {"epsilon": 0.0}}, "zero_gama"])
    assert text.startswith("3 problems:")


def test_a_trick_that_declares_what_it_revises_may_set_it_again(tmp_path):
    again = {"again": {"set": {"model.loss.label_smoothing": 0.2}, "revises": "model.loss.label_smoothing"}}
    plan = plan_of(tmp_path, tricks=["label_smoothing", again])
    assert plan.rows[2].recipe["model"]["init_args"]["loss"]["init_args"]["label_smoothing"] == 0.2


@pytest.mark.parametrize("path", sorted((HERE / "bases").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_misspelt_argument_anywhere_in_a_base_is_named(path):
    config = yaml.safe_load(path.read_text())
    detector = config["model"]["init_args"].get("detector")
    part, place = (detector, "detector") if detector else (config["model"], "model")
    part["init_args"]["network"]["init_args"]["widht"] = 8
    with pytest.raises(ValueError, match=rf"{place}.network: .* has no argument 'widht'"):
        resolve(config)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda c: c.update(modle=1), "no section 'modle'.*Did you mean 'model'"),
        (lambda c: c.pop("model"), "'model' must be a component"),
        (lambda c: c.update(seed_everything=-1), "'seed_everything' must be a whole number"),
        (lambda c: c["trainer"].update(max_epoch=3), "has no argument 'max_epoch'. Did you mean 'max_epochs'"),
        (lambda c: c["data"].update(class_path="datamodules.Digit"), "datamodules.Digit cannot be imported"),
        (lambda c: c["data"]["init_args"].update(batch_size="x"), "data.batch_size: must be int, not x"),
        (
            lambda c: c["data"].update(
                class_path="datamodules.InMemoryImageFolder", init_args={"folder": "d", "broken": "x"}
            ),
            "data.broken: must be 'error' or 'skip', not x",
        ),
        (lambda c: c["model"]["init_args"].pop("loss"), "loss"),
        (lambda c: c["model"]["init_args"]["optimizer"]["init_args"].update(momentm=1), "Did you mean 'momentum'"),
        (lambda c: c["inference"].update(vews=None), "Did you mean 'views'"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(edit, says):
    config = yaml.safe_load((HERE / "bases" / "digits.yaml").read_text())
    edit(config)
    with pytest.raises(ValueError, match=says):
        resolve(config)


TORCH = "torch.optim.lr_scheduler"
EXPONENTIAL = {"class_path": f"{TORCH}.ExponentialLR", "init_args": {"gamma": 0.9}}


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("ExponentialLR", {}, f": the argument gamma of {TORCH}.ExponentialLR is missing."),
        ("StepLR", {"gamma": 0.1}, f": the argument step_size of {TORCH}.StepLR is missing."),
        ("MultiStepLR", {}, f": the argument milestones of {TORCH}.MultiStepLR is missing."),
        ("OneCycleLR", {}, f": the argument max_lr of {TORCH}.OneCycleLR is missing."),
        ("CyclicLR", {}, f": the arguments base_lr and max_lr of {TORCH}.CyclicLR are missing."),
        ("ExponentialLR", {"gama": 0.9}, f": {TORCH}.ExponentialLR has no argument 'gama'. Did you mean 'gamma'?"),
        ("CosineAnnealingLR", {"eta_mni": 0}, f": {TORCH}.CosineAnnealingLR has no argument 'eta_mni'. Did you mean"),
        ("CosineAnnealingLR", {"T_max": 3, "eta_mni": 0}, f": {TORCH}.CosineAnnealingLR has no argument 'eta_mni'."),
        ("CosineAnnealingLR", {"T_max": "x"}, ".T_max: must be int, not x."),
        ("ExponentialLR", {"gamma": "x"}, ".gamma: must be float, not x."),
        ("ExponentialLR", {"gamma": 0.9, "total_steps": 9}, f": {TORCH}.ExponentialLR has no argument 'total_steps'."),
        ("ExponentialLR", {"gamma": 0.9, "optimizer": 1}, f": {TORCH}.ExponentialLR gets its argument 'optimizer'"),
        (
            "SequentialLR",
            {"schedulers": [EXPONENTIAL], "milestones": []},
            f".schedulers: the argument optimizer of {TORCH}.ExponentialLR cannot be given in a recipe;",
        ),
        ("NoLR", {}, f": {TORCH}.NoLR cannot be imported"),
    ],
)
def test_a_wrong_schedule_is_refused_with_one_sentence(name, arguments, says):
    config = yaml.safe_load((HERE / "bases" / "digits.yaml").read_text())
    config["model"]["init_args"]["schedule"] = {"class_path": f"{TORCH}.{name}", "init_args": arguments}
    with pytest.raises(ValueError, match=re.escape(f"model.schedule{says}")):
        resolve(config)


class Ramp(LambdaLR):
    """A user's schedule, which needs more than the length of the run."""

    def __init__(self, optimizer: Optimizer, total_steps: int, height: float) -> None:
        super().__init__(optimizer, lambda step: 1 + height * step / total_steps)


def test_of_a_schedule_over_the_run_only_what_a_recipe_must_give_is_said_to_be_missing():
    config = digits_recipe()
    config["model"]["init_args"]["schedule"] = {"class_path": f"{__name__}.Ramp"}
    with pytest.raises(ValueError, match=rf"model.schedule: the argument height of {__name__}.Ramp is missing."):
        resolve(config)


def test_a_schedule_whose_second_argument_is_no_length_gets_it_from_the_recipe():
    recipe = Recipe(digits_recipe(model__schedule=EXPONENTIAL))
    assert resolve(recipe.config)["model"]["init_args"]["schedule"]["init_args"] == {"gamma": 0.9, "last_epoch": -1}


def test_a_length_that_a_recipe_does_not_give_is_no_part_of_it():
    recipe = Recipe(digits_recipe())
    recipe.swap("model.schedule", f"{TORCH}.CosineAnnealingLR")
    assert resolve(recipe.config)["model"]["init_args"]["schedule"]["init_args"] == {"eta_min": 0.0, "last_epoch": -1}


def test_resolving_an_edit_alone_gives_what_resolving_all_gives():
    before = digits_recipe()
    edits = [
        lambda r: r.set("model.loss.label_smoothing", 0.1),
        lambda r: r.set("model.optimizer.lr", 1),
        lambda r: r.set("trainer.max_epochs", 5),
        lambda r: r.swap("model.schedule", "torch.optim.lr_scheduler.CosineAnnealingLR"),
        lambda r: r.add("trainer.callbacks", "callbacks.LinearWarmup"),
        lambda r: r.add("data.transforms", "datamodules.BatchRandomCrop", padding=1),
        lambda r: r.swap("inference.views", "lit_modules.inference.CornerCropViews"),
        lambda r: r.set("model.channels_last", False),
        lambda r: r.set("data.batch_size", 20),
        lambda r: r.add("data.transforms", "datamodules.BatchRandomErasing"),
        lambda r: r.swap("model.schedule", f"{TORCH}.StepLR", step_size=3),
    ]
    for count in range(1, len(edits) + 1):
        for chosen in itertools.combinations(edits, count) if count in (1, 2, len(edits)) else ():
            recipe = Recipe(before)
            for edit in chosen:
                edit(recipe)
            assert resolve_edits(before, recipe.config) == resolve(recipe.config)


def test_rows_are_what_ablate_fit_reads():
    for row in load_plan(find_study("digits")).rows:
        assert resolve(yaml.safe_load(yaml.safe_dump(row.recipe))) == row.recipe


def test_rows_that_keep_other_weights_share_a_training(tmp_path):
    plan = plan_of(tmp_path, tricks=["label_smoothing", "ema", "early_stopping"], seeds=2)
    assert plan.rows[1].key == plan.rows[2].key == plan.rows[3].key != plan.rows[0].key
    assert [row.inference.partition("-")[0] for row in plan.rows] == ["last", "last", "ema", "best"]
    training = plan.trainings(RunStore(tmp_path))[1]
    callbacks = [callback["class_path"] for callback in training.recipe["trainer"]["callbacks"]]
    assert callbacks == ["callbacks.EMA", "callbacks.BestWeights"]
    assert sorted(how.section["weights"] for how in training.scorings.values()) == ["best", "ema", "last"]


def test_a_trick_that_changes_the_rate_has_a_training_of_its_own(tmp_path):
    plan = plan_of(tmp_path, tricks=["ema", "swa", {"snapshot_ensemble": {"cycles": 2}}], mode="one-at-a-time")
    assert plan.rows[1].key == plan.rows[0].key
    assert len({row.key for row in plan.rows}) == 3


def test_averages_that_differ_do_not_share_a_training(tmp_path):
    slow = {"slow": {"edit": {"EMA": {"decay": 0.5}}, "revises": "trainer.callbacks.EMA"}}
    plan = plan_of(tmp_path, tricks=["ema", slow])
    assert plan.rows[0].key == plan.rows[1].key != plan.rows[2].key


def test_weights_that_nothing_keeps_are_refused_with_the_trick_that_brings_them(tmp_path):
    asks = {"asks": {"set": {"inference.weights": "swa"}}}
    text = problems(tmp_path, tricks=[asks])
    assert "scores the weights 'swa', which nothing in its recipe keeps. The trick 'swa' brings them along." in text
    asks = {"asks": {"set": {"inference.weights": "swaa"}}}
    assert "There are: last." in problems(tmp_path, tricks=[asks])


@pytest.mark.parametrize(
    ("trick", "says"),
    [
        ({"swa": {"start_fraction": 1.5}}, "SWA: start_fraction must be from 0 to below 1, a part of the run, not 1.5"),
        ({"ema": {"decay": 1.5}}, "EMA: decay must be between 0 and 1, not 1.5"),
        (
            {"snapshot_ensemble": {"cycles": 7}},
            "SnapshotEnsemble: 7 cycles do not divide the run's 2 epochs. Choose one of",
        ),
    ],
)
def test_a_callback_that_refuses_its_arguments_is_named_before_anything_trains(tmp_path, trick, says):
    with pytest.raises(StudyError, match=says):
        load_plan(write_study(tmp_path, tricks=[trick]))


def callback(class_path, **arguments):
    return {"turned": {"add": {"trainer.callbacks": {"class_path": class_path, "init_args": arguments}}}}


TURNED = [
    (callback("lightning.pytorch.callbacks.EarlyStopping", monitor="val/accuracy"), "EarlyStopping", "max"),
    (callback("lightning.pytorch.callbacks.ModelCheckpoint", monitor="val/accuracy"), "ModelCheckpoint", "max"),
    (callback("callbacks.BestWeights", monitor="val/loss"), "BestWeights", "min"),
    (
        {"turned": {"swap": {"model.schedule": {
            "class_path": "lit_modules.schedules.ReduceOnPlateau", "init_args": {"monitor": "val/loss"}
        }}}},
        "ReduceOnPlateau",
        "min",
    ),
    ({"early_stopping": {"monitor": "val/loss", "mode": "max"}}, "BestWeights", "min"),
]  # fmt: skip


@pytest.mark.parametrize(("trick", "name", "right"), TURNED)
def test_what_takes_the_worst_for_the_best_is_refused_before_anything_trains(tmp_path, trick, name, right):
    wrong, better = ("min", "higher") if right == "max" else ("max", "lower")
    text = problems(tmp_path, tricks=[trick])
    metric = "val/accuracy" if right == "max" else "val/loss"
    assert f"{name}: monitor is {metric!r}, which is better when it is {better}, but mode is {wrong!r}. " in text
    assert f"Set mode to {right!r}." in text


def test_what_monitors_another_metric_has_the_mode_that_it_says(tmp_path):
    stopping = "lightning.pytorch.callbacks.EarlyStopping"
    for arguments in ({"monitor": "val/loss"}, {"monitor": "val/wear"}, {"monitor": "val/accuracy", "mode": "max"}):
        assert len(plan_of(tmp_path, tricks=[callback(stopping, **arguments)]).rows) == 2


def test_a_component_within_another_is_looked_at_too():
    inner = {"class_path": "a.Stop", "init_args": {"monitor": "val/loss"}, "dict_kwargs": {"mode": "max"}}
    recipe = digits_recipe()
    recipe["trainer"]["logger"] = {"class_path": "a.Outer", "init_args": {"parts": [inner], "mode": "max"}}
    (problem,) = component_problems(recipe)
    assert problem.startswith("Stop: monitor is 'val/loss', which is better when it is lower, but mode is 'max'.")


def test_a_recipe_of_its_own_is_refused_for_its_components(tmp_path):
    path = tmp_path / "recipe.yaml"
    for trick, name, _ in [*TURNED[:4], (callback("callbacks.EMA", decay=1.5), "EMA", "")]:
        recipe = Recipe(digits_recipe())
        for verb, edits in trick["turned"].items():
            ((place, component),) = edits.items()
            getattr(recipe, verb)(place, component["class_path"], **component["init_args"])
        path.write_text(yaml.safe_dump(recipe.config))
        with pytest.raises(RecipeError, match=rf"recipe {path}: {name}: "):
            single_training(path, {}, None, RunStore(tmp_path))


def test_what_rows_inherit_is_said_once_for_the_row_that_brings_it(tmp_path):
    asks = {"asks": {"set": {"inference.weights": "swa"}, "revises": "inference.weights"}}
    with pytest.raises(StudyError) as refused:
        load_plan(write_study(tmp_path, tricks=[{"ema": {"decay": 1.5}}, asks, "cosine_schedule", "label_smoothing"]))
    named = [re.findall(r"row '([^']*)'", problem) for problem in refused.value.problems]
    assert sorted(named) == [["+ asks"], ["+ ema (decay=1.5)"]]


def test_switches_that_contradict_each_other_are_refused_before_anything_trains(tmp_path):
    text = problems(tmp_path, tricks=["no_batch_norm", "zero_gamma"])
    assert "row '+ zero_gamma': ResNet: zero_gamma" in text


def test_where_data_lies_is_no_part_of_the_key_and_the_content_of_files_is(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "_fingerprint", lambda data: "the same")

    def key(file, data_dir):
        recipe = digits_recipe()
        recipe["data"]["init_args"]["data_dir"] = data_dir
        recipe["model"]["init_args"]["init"] = {
            "class_path": "lit_modules.pretrained_weights.PretrainedWeights",
            "init_args": {"weights": str(file), "skip": [], "prefix": ""},
        }
        return training_key(recipe)

    files = []
    for name, content in (("a.pth", b"1"), ("b.pth", b"2")):
        files.append(tmp_path / name)
        files[-1].write_bytes(content)
    assert key(files[0], "/here") == key(files[0], "/there")
    assert key(files[0], "/here") != key(files[1], "/here")
    with pytest.raises(StudyError, match=r"nothing\.pth"):
        key(tmp_path / "nothing.pth", "/here")


def test_a_distilled_row_waits_for_its_teacher_and_takes_its_network(tmp_path):
    wide = {"wide": {"set": {"model.network.width": 6}}}
    plan = plan_of(tmp_path, mode="one-at-a-time", tricks=[wide, {"distillation": {"teacher": "row:wide"}}], seeds=2)
    teacher, student = plan.rows[1:]
    distillation = Recipe(student.recipe).get("model.distillation")["init_args"]
    assert distillation["teacher_weights"] == f"training:{teacher.key}/last"
    assert distillation["network"]["init_args"]["width"] == 6
    assert Recipe(student.recipe).get("model.network.width") == 4
    for training in plan.trainings(RunStore(tmp_path), rows=[2]):
        needs = [(need.key, need.seed, need.inference) for need in training.needs]
        assert needs == ([] if training.key == teacher.key else [(teacher.key, training.seed, "last")])
