"""Schedules of torch and of a user in a module: what they are given, and when they are stepped."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from pydoc import locate
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.cli import ReduceLROnPlateau as MonitoringPlateau
from torch.optim import Optimizer, lr_scheduler

from callbacks import EpochCheckpoint
from lit_modules import ScheduleCallable
from lit_modules.schedules import FractionalMultiStepLR, ReduceOnPlateau
from tests.helpers.one_weight import Crash, CrashError

Make = Callable[..., Any]

EPOCHS, BATCHES = 4, 3
STEPS = EPOCHS * BATCHES

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def decline(epoch: int) -> float:
    return 1 / (1 + epoch)


class Halving(lr_scheduler.StepLR):
    """A user's class, whose arguments are torch's."""

    def __init__(self, optimizer: Optimizer, **kwargs: Any) -> None:
        super().__init__(optimizer, gamma=0.5, **kwargs)


class Milestones(FractionalMultiStepLR):
    """A user's class, whose length is an argument of the class that it inherits from."""

    def __init__(self, optimizer: Optimizer, **kwargs: Any) -> None:
        super().__init__(optimizer, **kwargs)


def by_torch(name: str, **arguments: Any) -> Any:
    return pytest.param(f"torch.optim.lr_scheduler.{name}", arguments, id=name)


def by_user(cls: type, **arguments: Any) -> Any:
    return pytest.param(f"{__name__}.{cls.__name__}", arguments, id=cls.__name__)


BY_EPOCH = [
    by_torch("ConstantLR", factor=0.5, total_iters=2),
    by_torch("CosineAnnealingLR", T_max=3),
    by_torch("CosineAnnealingWarmRestarts", T_0=2),
    by_torch("CyclicLR", base_lr=0.01, max_lr=0.2, step_size_up=2),
    by_torch("ExponentialLR", gamma=0.95),
    by_torch("LambdaLR", lr_lambda=f"{__name__}.decline"),
    by_torch("LinearLR", start_factor=0.5, total_iters=3),
    by_torch("MultiStepLR", milestones=[1, 3], gamma=0.5),
    by_torch("MultiplicativeLR", lr_lambda=f"{__name__}.decline"),
    by_torch("PolynomialLR", total_iters=3, power=2.0),
    by_torch("StepLR", step_size=2, gamma=0.3),
    by_user(Halving, step_size=3),
]
BY_STEP = [
    by_torch("OneCycleLR", max_lr=0.5, total_steps=20),
    by_torch("OneCycleLR", max_lr=0.5, epochs=5, steps_per_epoch=4),
    by_user(FractionalMultiStepLR, total_steps=8),
]
OVER_THE_RUN = [
    (by_torch("CosineAnnealingLR", eta_min=0.01), "T_max"),
    (by_torch("OneCycleLR", max_lr=0.5), "total_steps"),
    (by_user(FractionalMultiStepLR, gamma=0.5), "total_steps"),
    (by_user(Milestones, gamma=0.5), "total_steps"),
]
MADE_OF_OTHERS = {"LRScheduler", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau"}


class Rates(L.Callback):
    """Records the learning rate of each optimizer step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.fixture
def rates_of(make_module: Make, make_data: Make, make_trainer: Make) -> Callable[..., list[float]]:
    """Fit with a schedule, and return the rate of each step."""

    def fit(schedule: ScheduleCallable, *callbacks: L.Callback, **settings: Any) -> list[float]:
        recorder = Rates()
        trainer = make_trainer(**{"max_epochs": EPOCHS, "callbacks": [recorder, *callbacks], **settings})
        sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
        trainer.fit(make_module(optimizer=sgd, schedule=schedule), datamodule=make_data())
        return recorder.rates

    return fit


def import_functions(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: locate(value) if name == "lr_lambda" else value for name, value in arguments.items()}


def naive_rates(path: str, arguments: dict[str, Any], by_step: bool) -> list[float]:
    """Step the schedule in a plain loop of torch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    schedule, rates = locate(path)(optimizer, **import_functions(arguments)), []
    for _ in range(EPOCHS):
        for _ in range(BATCHES):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if by_step:
                schedule.step()
        if not by_step:
            schedule.step()
    return rates


def parse(path: str, arguments: dict[str, Any]) -> ScheduleCallable:
    """Return what LightningCLI makes of a schedule in its file."""
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_argument("--schedule", type=ScheduleCallable)
    config = parser.parse_object({"schedule": {"class_path": path, "init_args": arguments}})
    dumped = parser.dump(config, skip_unset=False)
    assert parser.dump(parser.parse_string(dumped), skip_unset=False) == dumped
    schedule: ScheduleCallable = parser.instantiate(config).schedule
    return schedule


def test_every_schedule_of_torch_is_tried() -> None:
    tried = {param.id for param in [*BY_EPOCH, *BY_STEP]}
    assert set(lr_scheduler.__all__) <= tried | MADE_OF_OTHERS


@pytest.mark.parametrize(("path", "arguments"), BY_EPOCH)
def test_a_schedule_without_total_steps_goes_by_epochs(path: str, arguments: dict[str, Any], rates_of: Make) -> None:
    expected = naive_rates(path, arguments, by_step=False)
    assert len(set(expected)) > 1
    assert rates_of(parse(path, arguments)) == expected
    in_python = import_functions(arguments)
    assert rates_of(partial(locate(path), **in_python)) == expected
    assert rates_of(lambda optimizer: locate(path)(optimizer, **in_python)) == expected


@pytest.mark.parametrize(("path", "arguments"), BY_STEP)
def test_a_schedule_with_a_total_of_its_own_goes_by_steps(path: str, arguments: dict[str, Any], rates_of: Make) -> None:
    expected = naive_rates(path, arguments, by_step=True)
    assert rates_of(parse(path, arguments)) == expected
    assert rates_of(partial(locate(path), **arguments)) == expected
    assert rates_of(lambda optimizer: locate(path)(optimizer, **arguments)) == expected


@pytest.mark.parametrize(
    ("path", "arguments", "name"), [pytest.param(*param.values, name, id=param.id) for param, name in OVER_THE_RUN]
)
def test_a_schedule_that_asks_for_the_length_of_the_run_by_name_spans_it_in_steps(
    path: str, arguments: dict[str, Any], name: str, rates_of: Make
) -> None:
    expected = naive_rates(path, {**arguments, name: STEPS}, by_step=True)
    assert rates_of(parse(path, arguments)) == expected
    assert rates_of(partial(locate(path), **arguments)) == expected


def test_a_function_gets_the_length_of_the_run_by_its_name(rates_of: Make) -> None:
    expected = naive_rates(
        "torch.optim.lr_scheduler.LinearLR",
        {"start_factor": 1.0, "end_factor": 0.0, "total_iters": STEPS},
        by_step=True,
    )
    assert rates_of(lambda optimizer, total_steps: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_steps)) == expected


def test_a_function_may_put_schedules_of_torch_one_after_the_other(rates_of: Make) -> None:
    def make(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
        parts = [lr_scheduler.ConstantLR(optimizer, 0.5, 9), lr_scheduler.ExponentialLR(optimizer, 0.1)]
        return lr_scheduler.SequentialLR(optimizer, parts, [2])

    expected = [0.05] * 2 * BATCHES + [0.1] * BATCHES + [0.01] * BATCHES
    assert rates_of(make) == pytest.approx(expected)


def test_a_schedule_by_epochs_needs_no_length_of_the_run(rates_of: Make) -> None:
    class Stop(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch == 2

    rates = rates_of(partial(lr_scheduler.StepLR, step_size=1), Stop(), max_epochs=-1)
    assert rates == pytest.approx([0.1] * BATCHES + [0.01] * BATCHES + [0.001] * BATCHES)


def test_a_schedule_by_epochs_does_not_count_accumulated_batches(rates_of: Make) -> None:
    rates = rates_of(partial(lr_scheduler.StepLR, step_size=2), accumulate_grad_batches=2)
    assert rates == pytest.approx([0.1] * 2 * BATCHES + [0.01] * 2 * BATCHES)


def test_the_plateau_of_lightning_is_ours(rates_of: Make) -> None:
    stalls = {"monitor": "val/accuracy", "mode": "max", "patience": 0, "threshold": 1.0}
    expected = rates_of(partial(ReduceOnPlateau, **stalls))
    assert len(set(expected)) > 1
    assert rates_of(parse("lightning.pytorch.cli.ReduceLROnPlateau", stalls)) == expected
    assert rates_of(lambda optimizer: MonitoringPlateau(optimizer, **stalls)) == expected


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_schedule_by_epochs_goes_on_after_a_crash_as_if_there_had_been_none(
    epoch: int, make_module: Make, make_data: Make, make_trainer: Make, tmp_path: Path
) -> None:
    def fit(*callbacks: L.Callback, ckpt_path: Path | None = None) -> tuple[Any, list[float]]:
        recorder, checkpoint = Rates(), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
        module = make_module(schedule=partial(lr_scheduler.ExponentialLR, gamma=0.7))
        trainer = make_trainer(
            max_epochs=EPOCHS, callbacks=[recorder, checkpoint, *callbacks], enable_checkpointing=True
        )
        try:
            trainer.fit(module, datamodule=make_data(), ckpt_path=ckpt_path, weights_only=True)
        except CrashError:
            assert callbacks
        return module, recorder.rates

    whole, rates = fit()
    fit(Crash(epoch))
    resumed, rest = fit(ckpt_path=tmp_path / "last.ckpt")
    assert rest == rates[BATCHES * epoch :]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (lr_scheduler.ExponentialLR, "gamma of the schedule ExponentialLR must be given, with functools.partial"),
        (partial(lr_scheduler.CyclicLR, max_lr=1.0), "base_lr of the schedule CyclicLR must be given"),
        (lambda optimizer, steps: None, r"steps of the schedule .*<lambda> must be given.* Only total_steps and T_max"),
        (lr_scheduler.ChainedScheduler, "ChainedScheduler takes other schedules, not the optimizer"),
        (lr_scheduler.ReduceLROnPlateau, "ReduceLROnPlateau does not say which metric it waits for"),
        (lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, "max"), "does not say which metric it waits for"),
    ],
)
def test_a_schedule_that_cannot_be_made_is_refused(schedule: Any, says: str, rates_of: Make) -> None:
    with pytest.raises(ValueError, match=f"LitClassifier: .*{says}"):
        rates_of(schedule)


BASES = Path(__file__).parents[2] / "ablations" / "bases"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LightningCLI still calls jsonargparse by old names
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
@pytest.mark.parametrize("base", ["digits", "digit_scenes", "digits_retrieval"])
def test_lightning_cli_trains_every_module_with_a_schedule_of_torch(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["script.py"])
    config = yaml.safe_load((BASES / f"{base}.yaml").read_text())
    schedule = {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.5}}
    config["model"]["init_args"]["schedule"] = schedule
    few = {"max_epochs": 3, "limit_train_batches": 2, "limit_val_batches": 0, "default_root_dir": str(tmp_path)}
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    arguments = {"trainer": {**config["trainer"], **few, **quiet}, "model": config["model"], "data": config["data"]}
    modes = {"subclass_mode_model": True, "subclass_mode_data": True, "seed_everything_default": False}
    cli = LightningCLI(L.LightningModule, L.LightningDataModule, run=False, args=arguments, **modes)
    cli.trainer.fit(cli.model, cli.datamodule)
    (optimizer,) = cli.trainer.optimizers
    assert optimizer.param_groups[0]["lr"] == config["model"]["init_args"]["optimizer"]["init_args"]["lr"] / 8
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())["model"]["init_args"]["schedule"]
    assert saved == {**schedule, "init_args": {"gamma": 0.5, "last_epoch": -1}}
