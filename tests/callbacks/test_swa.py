import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, OnExceptionCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, MultiStepLR, OneCycleLR

from callbacks import SWA, EpochCheckpoint, ReseedEachEpoch
from tests.helpers.crashes import CrashInValidation, SaveAt
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import CrashError, Schedule, fit, fit_until_crash, make_trainer
from tests.helpers.scored_weight import ScoredWeight, UnsizedWeight, score
from tests.helpers.small_net import SmallNet, flatten

STEPS = 16


def each_step(make: Callable[[Optimizer], Any]) -> Schedule:
    return lambda optimizer: {"scheduler": make(optimizer), "interval": "step"}


SCHEDULES: dict[str, Schedule | None] = {
    "none": None,
    "cosine": each_step(lambda optimizer: CosineAnnealingLR(optimizer, STEPS)),
    "steps": each_step(lambda optimizer: MultiStepLR(optimizer, [3, 11], gamma=0.1)),
    "lambda": each_step(lambda optimizer: LambdaLR(optimizer, lambda step: 1 / (1 + step))),
    "one cycle": each_step(lambda optimizer: OneCycleLR(optimizer, 3.0, STEPS, cycle_momentum=False)),
    "by epoch": lambda optimizer: ExponentialLR(optimizer, 0.7),
}
any_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


class Recorder(DummyLogger):
    """Lists the learning rates that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rates += [value for name, value in metrics.items() if name.startswith("lr-")]


def stored(swa: SWA, module: ScoredWeight) -> float:
    return float(swa.stored_weights(module)["swa"]["weight"])


def weights_after(rates: list[float]) -> list[float]:
    """Return the weight after each step, of which each moves it by its rate."""
    return [sum(rates[: step + 1]) for step in range(len(rates))]


def test_swa_is_no_observer() -> None:
    assert not SWA.observes_only


@any_schedule
def test_s8_the_schedule_runs_to_the_start_and_the_constant_rate_from_there(schedule: Schedule | None) -> None:
    plain, module, swa = ScoredWeight(schedule=schedule), ScoredWeight(schedule=schedule), SWA(0.25, 0.5)
    fit(plain)
    trainer = fit(module, swa)
    assert module.first_rates == plain.first_rates[:8] + [0.25] * 8
    weights = weights_after(module.first_rates)
    assert stored(swa, module) == pytest.approx((weights[11] + weights[15]) / 2)
    kinds = [type(config.scheduler) for config in trainer.lr_scheduler_configs]
    assert kinds == ([] if schedule is None else [type(plain.lr_schedulers())])


@any_schedule
@pytest.mark.parametrize(("cycle_epochs", "ends"), [(1, [7, 11, 15]), (3, [15])])
def test_a_cyclic_rate_falls_linearly_and_the_ends_of_its_cycles_are_averaged(
    schedule: Schedule | None, cycle_epochs: int, ends: list[int]
) -> None:
    module, swa = ScoredWeight(schedule=schedule), SWA(0.4, 0.25, cycle_epochs, min_lr=0.1)
    fit(module, swa)
    length = 4 * cycle_epochs
    positions = [(step % length + 1) / length for step in range(12)]
    assert module.first_rates[4:] == pytest.approx([(1 - t) * 0.4 + t * 0.1 for t in positions])
    weights = weights_after(module.first_rates)
    assert stored(swa, module) == pytest.approx(sum(weights[end] for end in ends) / len(ends))


@pytest.mark.parametrize(("batches", "accumulated", "per_epoch"), [(4, 2, 2), (5, 2, 3), (3, 8, 1)])
def test_optimizer_steps_are_counted_not_batches(batches: int, accumulated: int, per_epoch: int) -> None:
    module, swa = ScoredWeight(batches=batches), SWA(0.5, 0.5, cycle_epochs=1)
    fit(module, swa, accumulate_grad_batches=accumulated)
    cycle = [0.5 * (1 - (step + 1) / per_epoch) for step in range(per_epoch)]
    assert module.first_rates == pytest.approx([1.0] * 2 * per_epoch + cycle * 2)
    weights = weights_after(module.first_rates)
    assert stored(swa, module) == pytest.approx((weights[3 * per_epoch - 1] + weights[-1]) / 2)


def test_parameter_groups_keep_their_ratio() -> None:
    class TwoGroups(ScoredWeight):
        def __init__(self) -> None:
            super().__init__(schedule=SCHEDULES["cosine"])
            self.slow = nn.Parameter(torch.zeros(()))

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return -self.weight - self.slow

        def parameter_groups(self) -> list[dict[str, Any]]:
            return [{"params": [self.slow], "lr": 0.1}, *super().parameter_groups()]

    module = TwoGroups()
    fit(module, SWA(0.5, 0.5))
    assert module.rates[8:] == [pytest.approx([0.05, 0.5])] * 8


def test_learning_rate_monitor_logs_the_rate_that_the_step_uses() -> None:
    module, logger = ScoredWeight(schedule=SCHEDULES["cosine"]), Recorder()
    monitor = LearningRateMonitor(logging_interval="step")
    fit(module, SWA(0.5, 0.5), monitor, logger=logger, log_every_n_steps=1)
    assert logger.rates == module.first_rates


@any_schedule
@pytest.mark.parametrize("cycle_epochs", [None, 1])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(
    schedule: Schedule | None, cycle_epochs: int | None, epoch: int, tmp_path: Path
) -> None:
    whole, crashed, resumed = (ScoredWeight(schedule=schedule) for _ in range(3))
    first, again = SWA(0.5, 0.5, cycle_epochs), SWA(0.5, 0.5, cycle_epochs)
    checkpoint = EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, first)
    fit_until_crash(crashed, SWA(0.5, 0.5, cycle_epochs), checkpoint, epoch=epoch)
    fit(resumed, again, ckpt_path=checkpoint.path)
    assert crashed.rates[: 4 * epoch] + resumed.rates == whole.rates
    assert resumed.weight == whole.weight
    assert stored(again, resumed) == stored(first, whole)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("cycle_epochs", [None, 1])
@pytest.mark.parametrize("listed_first", [True, False])
@pytest.mark.parametrize(("epoch", "batch"), [(1, 3), (2, 0), (2, 1), (2, 3), (3, 2)])
def test_a_run_resumed_from_within_an_epoch_equals_the_uninterrupted_one(
    epoch: int, batch: int, listed_first: bool, cycle_epochs: int | None, tmp_path: Path
) -> None:
    path, settings = tmp_path / "middle.ckpt", {"accumulate_grad_batches": 2}
    whole, resumed = (ScoredWeight(schedule=SCHEDULES["cosine"]) for _ in range(2))
    saver, first, again = (
        SaveAt(path, "on_train_batch_end", epoch, batch),
        *(SWA(0.5, 0.5, cycle_epochs) for _ in range(2)),
    )
    fit(whole, *([saver, first] if listed_first else [first, saver]), **settings)
    fit(resumed, again, ckpt_path=path, **settings)
    assert resumed.rates == whole.rates[len(whole.rates) - len(resumed.rates) :]
    assert resumed.weight == whole.weight
    assert stored(again, resumed) == stored(first, whole)


@pytest.mark.parametrize("cycle_epochs", [None, 2])
def test_a_network_resumes_exactly(cycle_epochs: int | None, tmp_path: Path) -> None:
    whole, resumed, first, again = SmallNet(), SmallNet(), SWA(0.1, 0.5, cycle_epochs), SWA(0.1, 0.5, cycle_epochs)
    seed, checkpoint = ReseedEachEpoch(0), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, seed, first)
    fit_until_crash(SmallNet(), seed, SWA(0.1, 0.5, cycle_epochs), checkpoint, epoch=3)
    fit(resumed, seed, again, ckpt_path=checkpoint.path)
    assert flatten(resumed.state_dict()) == flatten(whole.state_dict())
    assert flatten(again.stored_weights(resumed)["swa"]) == flatten(first.stored_weights(whole)["swa"])


@pytest.mark.filterwarnings("ignore:.*called without a model", "ignore:.*there is no last checkpoint available")
def test_an_exception_in_validation_does_not_leave_the_average_in_the_module(tmp_path: Path) -> None:
    module, swa = ScoredWeight(), SWA(0.5, 0.25, validate_with_average=True)
    with pytest.raises(CrashError):
        fit(module, OnExceptionCheckpoint(tmp_path), CrashInValidation(epoch=2), swa)
    assert module.validated == [4, 6, 7]
    assert module.weight == 8


def test_test_on_the_trainer_that_ran_fit_and_on_a_fresh_one_use_the_average(tmp_path: Path) -> None:
    module, swa, path = ScoredWeight(), SWA(0.5, 0.5), tmp_path / "all.ckpt"
    trainer = fit(module, swa)
    trainer.save_checkpoint(path)
    assert score(trainer, module) == score(trainer, module, ckpt_path=path) == 11
    assert score(make_trainer(SWA(0.5, 0.5)), ScoredWeight(), ckpt_path=path) == 11
    assert module.weight == 12


def test_s2_max_steps_keep_the_completed_cycles() -> None:
    module, swa = ScoredWeight(), SWA(0.5, 0.5, cycle_epochs=1)
    fit(module, swa, max_epochs=-1, max_steps=16)
    assert stored(swa, module) == pytest.approx((8 + 0.75 + 8 + 1.5) / 2)


def test_s4_a_second_fit_with_the_same_callback_starts_anew() -> None:
    module, swa = ScoredWeight(), SWA(0.5, 0.5)
    fit(ScoredWeight(), swa)
    fit(module, swa, max_epochs=6)
    assert module.first_rates == [1.0] * 12 + [0.5] * 12
    assert stored(swa, module) == 16


class Manual(ScoredWeight):
    automatic_optimization = False


def test_s6_manual_optimization_is_refused() -> None:
    with pytest.raises(ValueError, match="Manual optimizes manually, so the rate of its steps cannot be taken over"):
        fit(Manual(), SWA(0.5))


def test_s9_a_start_in_a_run_that_max_steps_end_is_a_part_of_them() -> None:
    module = ScoredWeight()
    fit(module, SWA(0.5, 0.7), max_epochs=-1, max_steps=10)
    assert module.first_rates == [1.0] * 7 + [0.5] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0.0}, "lr must be positive, not 0.0"),
        ({"lr": math.nan}, "lr must be positive, not nan"),
        ({"lr": 0.1, "start_fraction": 1.0}, "start_fraction must be from 0 to below 1, a part of the run, not 1.0"),
        ({"lr": 0.1, "cycle_epochs": 0}, "cycle_epochs must be at least 1, not 0"),
        ({"lr": 0.1, "cycle_epochs": 1, "min_lr": 0.2}, "min_lr must be from 0 to lr=0.1, not 0.2"),
        ({"lr": 0.1, "min_lr": 0.05}, "min_lr=0.05 needs cycle_epochs"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SWA(**arguments)


@pytest.mark.parametrize(
    ("start_fraction", "cycle_epochs", "advice"),
    [
        (0.7, 1, "5 of 16 optimizer steps, which is not a whole number of cycles of 1 epochs of 4 steps. "
         "Set start_fraction=0.75 for 1 whole cycles"),
        (0.25, 2, "Set start_fraction=0 for 2 whole cycles"),
        (0.5, 5, "The whole run is shorter than a cycle"),
    ],
)  # fmt: skip
def test_cycles_that_do_not_fill_the_last_part_are_refused(
    start_fraction: float, cycle_epochs: int, advice: str
) -> None:
    with pytest.raises(ValueError, match=advice):
        fit(ScoredWeight(), SWA(0.5, start_fraction, cycle_epochs))


def test_cycles_in_data_without_length_are_refused() -> None:
    with pytest.raises(ValueError, match="has no length, so the number of optimizer steps in a cycle is unknown"):
        fit(UnsizedWeight(), SWA(0.5, 0.5, cycle_epochs=1))


def fit_two_processes() -> tuple[float, list[list[float]]]:
    module, swa = ScoredWeight(schedule=SCHEDULES["cosine"]), SWA(0.5, 0.5, cycle_epochs=1)
    fit_distributed(module, swa)
    return stored(swa, module), module.rates


def test_two_processes_train_and_average_as_one_does() -> None:
    module, swa = ScoredWeight(schedule=SCHEDULES["cosine"]), SWA(0.5, 0.5, cycle_epochs=1)
    fit(module, swa)
    assert run_distributed(fit_two_processes) == [(stored(swa, module), module.rates)] * 2
