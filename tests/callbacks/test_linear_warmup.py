import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, MultiStepLR, OneCycleLR, StepLR
from torch.utils.data import DataLoader, IterableDataset

from callbacks import EpochCheckpoint, LinearWarmup
from lit_modules.optimizer_setup import set_up_schedule
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import OneWeight, RecordingSGD, Schedule, fit, fit_until_crash, make_trainer

STEPS = 16


def each_step(make: Callable[[Optimizer], Any]) -> Schedule:
    return lambda optimizer: {"scheduler": make(optimizer), "interval": "step"}


SCHEDULES: dict[str, Schedule | None] = {
    "none": None,
    "cosine": each_step(lambda optimizer: CosineAnnealingLR(optimizer, STEPS)),
    "steps": each_step(lambda optimizer: MultiStepLR(optimizer, [3, 6, 11], gamma=0.1)),
    "lambda": each_step(lambda optimizer: LambdaLR(optimizer, lambda step: 1 / (1 + step))),
    "one cycle": each_step(lambda optimizer: OneCycleLR(optimizer, max_lr=3.0, total_steps=STEPS)),
    "by epoch": lambda optimizer: ExponentialLR(optimizer, 0.7),
}
any_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def warmed_up(scheduled: list[float], steps: int) -> list[float]:
    """Return the closed form of the rates, from those of a run without warm-up."""
    return [rate * min(1.0, (step + 1) / steps) for step, rate in enumerate(scheduled)]


class TwoGroups(OneWeight):
    """A second weight in a group of its own, with a tenth of the learning rate."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        super().__init__(schedule)
        self.slow = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -self.weight - self.slow

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [*super().parameter_groups(), {"params": [self.slow], "lr": 0.1}]


class SaveInBatch(Callback):
    """Save a checkpoint after a batch."""

    def __init__(self, path: Path, epoch: int, batch: int) -> None:
        self.path = path
        self.place = (epoch, batch)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == self.place:
            trainer.save_checkpoint(self.path)


class Recorder(DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.logged: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.logged.append(metrics)


def test_rate_of_the_first_step_is_one_nth_and_of_step_n_is_full() -> None:
    module = OneWeight()
    fit(module, LinearWarmup(epochs=2))
    assert module.first_rates == [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875] + [1.0] * 9
    assert module.steps == sum(module.first_rates)


@any_schedule
def test_rate_of_every_step_is_the_scheduled_one_times_the_closed_form(schedule: Schedule | None) -> None:
    plain, module = OneWeight(schedule), OneWeight(schedule)
    fit(plain)
    fit(module, LinearWarmup(epochs=2))
    assert len(plain.rates) == STEPS
    assert module.first_rates[:8] == pytest.approx(warmed_up(plain.first_rates, 8)[:8], rel=1e-15)
    assert module.first_rates[8:] == plain.first_rates[8:]


def test_parameter_groups_keep_their_ratio() -> None:
    plain, module = TwoGroups(SCHEDULES["cosine"]), TwoGroups(SCHEDULES["cosine"])
    fit(plain)
    fit(module, LinearWarmup(epochs=2))
    for group in (0, 1):
        expected = warmed_up([rates[group] for rates in plain.rates], 8)
        assert [rates[group] for rates in module.rates] == pytest.approx(expected, rel=1e-15)
    assert [rates[1] / rates[0] for rates in module.rates] == pytest.approx([0.1] * STEPS)


@pytest.mark.parametrize(("batches", "accumulated", "per_epoch"), [(4, 2, 2), (5, 2, 3), (4, 3, 2), (3, 8, 1)])
def test_warm_up_counts_optimizer_steps_under_gradient_accumulation(
    batches: int, accumulated: int, per_epoch: int
) -> None:
    plain, module = (OneWeight(SCHEDULES["cosine"], batches) for _ in range(2))
    fit(plain, accumulate_grad_batches=accumulated)
    fit(module, LinearWarmup(epochs=3), accumulate_grad_batches=accumulated)
    assert len(module.rates) == 4 * per_epoch
    assert module.first_rates == pytest.approx(warmed_up(plain.first_rates, 3 * per_epoch), rel=1e-15)


@pytest.mark.parametrize(("epochs", "steps"), [(0.01, 1), (0.5, 2), (0.7, 3), (1.25, 5), (3.75, 15)])
def test_a_fraction_of_an_epoch_is_rounded_to_whole_steps(epochs: float, steps: int) -> None:
    module = OneWeight()
    fit(module, LinearWarmup(epochs))
    assert module.first_rates == warmed_up([1.0] * STEPS, steps)


@pytest.mark.parametrize("max_epochs", [-1, 4])
def test_an_epoch_of_a_run_that_ends_by_max_steps_is_as_long_as_any(max_epochs: int) -> None:
    module = OneWeight(batches=5)
    fit(module, LinearWarmup(epochs=2), max_steps=7, max_epochs=max_epochs, accumulate_grad_batches=2)
    assert module.first_rates == warmed_up([1.0] * 7, 6)


@any_schedule
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(schedule: Schedule | None, epoch: int, tmp_path: Path) -> None:
    whole, crashed, resumed = (OneWeight(schedule) for _ in range(3))
    fit(whole, LinearWarmup(2.5))
    checkpoint = EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit_until_crash(crashed, LinearWarmup(2.5), checkpoint, epoch=epoch)
    trainer = fit(resumed, LinearWarmup(2.5), ckpt_path=checkpoint.path)
    assert crashed.rates[: 4 * epoch] + resumed.rates == whole.rates
    assert resumed.steps == whole.steps
    assert trainer.global_step == STEPS


class ByEpochs(OneWeight):
    """Sets its schedule up as our modules do: a `StepLR` that halves the rate every second epoch."""

    def configure_optimizers(self) -> Any:
        optimizer = RecordingSGD(self.parameter_groups(), self.rates, lr=1.0)
        return set_up_schedule(self, optimizer, partial(StepLR, step_size=2, gamma=0.5))


HALVED = warmed_up([1.0] * 8 + [0.5] * 8, 10)
"""The closed form of its rates, with a warm-up that ends in its third epoch."""


def test_a_schedule_by_epochs_of_our_modules_is_multiplied_step_by_step() -> None:
    module = ByEpochs()
    fit(module, LinearWarmup(epochs=2.5))
    assert module.first_rates == pytest.approx(HALVED, rel=1e-15)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_schedule_by_epochs_of_our_modules_goes_on_from_any_batch(epoch: int, batch: int, tmp_path: Path) -> None:
    path = tmp_path / "middle.ckpt"
    whole, resumed = ByEpochs(), ByEpochs()
    fit(whole, LinearWarmup(epochs=2.5), SaveInBatch(path, epoch, batch))
    fit(resumed, LinearWarmup(epochs=2.5), ckpt_path=path)
    assert whole.first_rates == pytest.approx(HALVED, rel=1e-15)
    assert resumed.rates == whole.rates[4 * epoch + batch + 1 :]
    assert resumed.steps == whole.steps


@pytest.mark.parametrize("warmup_first", [True, False])
@pytest.mark.parametrize("name", ["none", "cosine"])
def test_a_checkpoint_taken_between_accumulated_batches_holds_the_scheduled_rate(
    warmup_first: bool, name: str, tmp_path: Path
) -> None:
    """The gradients are lost, since Lightning does not store them, but every rate is right."""
    path = tmp_path / "middle.ckpt"
    whole, resumed = (OneWeight(SCHEDULES[name]) for _ in range(2))
    callbacks = [LinearWarmup(epochs=2), SaveInBatch(path, epoch=1, batch=0)]
    fit(whole, *(callbacks if warmup_first else callbacks[::-1]), accumulate_grad_batches=2)
    fit(resumed, LinearWarmup(epochs=2), ckpt_path=path, accumulate_grad_batches=2)
    assert resumed.rates == whole.rates[2:]


def test_learning_rate_monitor_logs_the_rate_that_the_step_uses() -> None:
    module, logger = OneWeight(SCHEDULES["cosine"]), Recorder()
    monitor = LearningRateMonitor(logging_interval="step")
    fit(module, LinearWarmup(epochs=2), monitor, logger=logger, log_every_n_steps=1)
    logged = [metrics["lr-RecordingSGD"] for metrics in logger.logged if "lr-RecordingSGD" in metrics]
    assert logged == module.first_rates


def test_learning_rate_monitor_by_epoch_logs_the_rate_of_the_first_step() -> None:
    module, logger = OneWeight(), Recorder()
    fit(
        module,
        LinearWarmup(epochs=2),
        LearningRateMonitor(logging_interval="epoch"),
        logger=logger,
        log_every_n_steps=1,
    )
    logged = [metrics["lr-RecordingSGD"] for metrics in logger.logged if "lr-RecordingSGD" in metrics]
    assert logged == module.first_rates[::4]


def test_a_second_fit_with_the_same_callback_warms_up_anew() -> None:
    warmup, first, second = LinearWarmup(epochs=2), OneWeight(), OneWeight()
    fit(first, warmup)
    fit(second, warmup)
    assert second.rates == first.rates


def test_a_fit_after_a_crash_with_the_same_callback_warms_up_anew() -> None:
    warmup, crashed, second = LinearWarmup(epochs=2), OneWeight(), OneWeight()
    fit_until_crash(crashed, warmup, epoch=1)
    fit(second, warmup)
    assert second.first_rates == warmed_up([1.0] * STEPS, 8)


def test_a_second_fit_of_the_same_trainer_warms_up_anew() -> None:
    module = OneWeight()
    trainer = make_trainer(LinearWarmup(epochs=2))
    trainer.fit(module)
    trainer.fit_loop.max_epochs = 8
    trainer.fit(module)
    assert module.first_rates == warmed_up([1.0] * STEPS, 8) * 2


def test_the_optimizer_is_left_with_the_scheduled_rate_after_a_crash() -> None:
    module = OneWeight()
    fit_until_crash(module, LinearWarmup(epochs=2), epoch=1)
    assert module.optimizers().param_groups[0]["lr"] == 1.0


def test_an_optimizer_that_calls_the_step_it_inherits_is_counted_once() -> None:
    """`RecordingSGD` inherits `step`; torch runs the hooks of both once a plain SGD has been made."""
    torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    module = OneWeight()
    fit(module, LinearWarmup(epochs=2))
    assert module.first_rates == warmed_up([1.0] * STEPS, 8)


class Unfreezing(Callback):
    """Add a group at the start of the second epoch, after the warm-up has looked."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 1:
            group = {"params": [nn.Parameter(torch.zeros(()))], "lr": 0.5}
            trainer.optimizers[0].add_param_group(group)


def test_a_parameter_group_that_is_added_on_the_way_warms_up_with_the_others() -> None:
    module = OneWeight()
    fit(module, LinearWarmup(epochs=2), Unfreezing())
    assert module.first_rates == warmed_up([1.0] * STEPS, 8)
    assert [rates[1] for rates in module.rates[4:]] == [0.5, *(0.5 * rate for rate in module.first_rates[5:])]


class Overflowing(OneWeight):
    """The gradient of the third batch of every epoch is infinite."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -self.weight * (math.inf if batch_idx == 2 else 1.0)


class FusedOverflowing(Overflowing):
    """The optimizer skips the step by itself."""

    def configure_optimizers(self) -> Any:
        return RecordingSGD(self.parameter_groups(), self.rates, lr=1.0, fused=True)


def scaled_precision() -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1.0))


@pytest.mark.parametrize("name", ["none", "cosine"])
def test_steps_that_the_gradient_scaler_skips_are_not_counted(name: str) -> None:
    plain, module = OneWeight(SCHEDULES[name]), Overflowing(SCHEDULES[name])
    fit(plain)
    fit(module, LinearWarmup(epochs=2), plugins=[scaled_precision()])
    scheduled = [rate for step, rate in enumerate(plain.first_rates) if step % 4 != 2]
    assert module.first_rates == pytest.approx(warmed_up(scheduled, 8), rel=1e-15)


def test_steps_that_a_fused_optimizer_skips_are_not_counted() -> None:
    module = FusedOverflowing()
    fit(module, LinearWarmup(epochs=2), plugins=[scaled_precision()])
    taken = [rate for step, rate in enumerate(module.first_rates) if step % 4 != 2]
    assert taken == warmed_up([1.0] * 12, 8)
    assert module.steps == sum(taken)


class Manual(OneWeight):
    automatic_optimization = False


class Unsized(IterableDataset):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.zeros(4, 1))


class Endless(OneWeight):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(Unsized(), batch_size=1)


@pytest.mark.parametrize("epochs", [0, -1, math.nan, math.inf])
def test_epochs_that_are_not_a_positive_number_are_refused(epochs: float) -> None:
    with pytest.raises(ValueError, match=f"LinearWarmup: epochs must be positive, not {epochs}"):
        LinearWarmup(epochs)


def test_a_warm_up_as_long_as_the_run_is_refused() -> None:
    message = "4 epochs of warm-up are 16 optimizer steps, but the whole run has 16. Choose fewer epochs, less than 4"
    with pytest.raises(ValueError, match=message):
        fit(OneWeight(), LinearWarmup(epochs=4))


def test_manual_optimization_is_refused() -> None:
    with pytest.raises(ValueError, match="Manual optimizes manually"):
        fit(Manual(), LinearWarmup(epochs=1))


def test_training_data_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="has no length"):
        fit(Endless(), LinearWarmup(epochs=1), max_epochs=-1, max_steps=8)


def fit_and_return_rates() -> tuple[list[list[float]], float]:
    module = OneWeight(each_step(lambda optimizer: CosineAnnealingLR(optimizer, STEPS)))
    fit_distributed(module, LinearWarmup(epochs=2))
    return module.rates, module.steps


def test_two_processes_warm_up_as_one_does() -> None:
    module = OneWeight(SCHEDULES["cosine"])
    fit(module, LinearWarmup(epochs=2))
    assert run_distributed(fit_and_return_rates) == [(module.rates, module.steps)] * 2
