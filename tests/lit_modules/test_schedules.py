"""Schedules against torch's own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
)

from callbacks import EpochCheckpoint
from lit_modules.cosine_cycles import CosineCycles
from lit_modules.schedules import ExponentialDecay, FractionalMultiStepLR, InverseTimeDecay, OneCycle, ReduceOnPlateau
from tests.helpers.one_weight import Crash, CrashError

Make = Callable[..., Any]


def make_optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def list_rates(scheduler: LRScheduler, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def test_default_milestones_are_epochs_30_60_and_90_of_120() -> None:
    steps_per_epoch = 7
    ours = FractionalMultiStepLR(make_optimizer(), total_steps=120 * steps_per_epoch)
    theirs = MultiStepLR(make_optimizer(), milestones=[epoch * steps_per_epoch for epoch in (30, 60, 90)])
    assert list_rates(ours, 120 * steps_per_epoch) == list_rates(theirs, 120 * steps_per_epoch)


def test_milestones_and_gamma_are_those_given() -> None:
    ours = FractionalMultiStepLR(make_optimizer(), total_steps=10, milestones=[0.5, 0.8], gamma=0.5)
    assert list_rates(ours, 10) == pytest.approx([0.1] * 5 + [0.05] * 3 + [0.025] * 2)


def test_a_fraction_that_is_not_exact_in_binary_still_falls_on_its_step() -> None:
    assert sorted(FractionalMultiStepLR(make_optimizer(), 100, milestones=[0.29, 0.57]).milestones) == [29, 57]


def test_milestones_of_a_very_short_run_that_coincide_all_count() -> None:
    ours = FractionalMultiStepLR(make_optimizer(), total_steps=1, milestones=[0.6, 0.7])
    assert list_rates(ours, 2) == pytest.approx([0.1, 0.001])


def test_a_restored_schedule_goes_on_as_the_first_one() -> None:
    whole = list_rates(FractionalMultiStepLR(make_optimizer(), 8), 8)
    first = FractionalMultiStepLR(make_optimizer(), 8)
    list_rates(first, 3)
    second = FractionalMultiStepLR(make_optimizer(), 8)
    second.load_state_dict(first.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert list_rates(second, 5) == whole[3:]


@pytest.mark.parametrize("milestones", [[30, 60], [0.0, 0.5], [0.5, 1.0], [0.5, 0.25], [0.5, 0.5], [-0.1]])
def test_milestones_that_are_not_increasing_fractions_are_refused(milestones: list[float]) -> None:
    with pytest.raises(ValueError, match="must list increasing fractions"):
        FractionalMultiStepLR(make_optimizer(), 100, milestones=milestones)


def make_two_groups(optimizer: type[torch.optim.Optimizer] = torch.optim.SGD, **arguments: float) -> Any:
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    return optimizer([{"params": [first]}, {"params": [second], "lr": 0.02}], lr=0.1, **arguments)  # type: ignore[call-arg]


def list_settings(scheduler: LRScheduler, steps: int, name: str) -> list[list[Any]]:
    """Return a setting of every parameter group at each step."""
    settings = []
    for _ in range(steps):
        settings.append([group[name] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return settings


def test_cosine_restarts_are_torch_s() -> None:
    theirs = CosineAnnealingWarmRestarts(make_optimizer(), T_0=5, eta_min=0.01)
    assert list_rates(CosineCycles(make_optimizer(), 20, cycles=4, min_lr=0.01), 20) == list_rates(theirs, 20)


@pytest.mark.parametrize("name", ["lr", "momentum"])
def test_one_cycle_is_torch_s_with_its_peak_at_a_multiple_of_each_rate(name: str) -> None:
    ours = OneCycle(make_two_groups(momentum=0.9), 50, max_lr_factor=2.0)
    theirs = OneCycleLR(make_two_groups(momentum=0.9), max_lr=[0.2, 0.04], total_steps=50)
    assert list_settings(ours, 50, name) == list_settings(theirs, 50, name)


@pytest.mark.parametrize("name", ["lr", "momentum"])
def test_one_cycle_is_torch_s_in_every_argument(name: str) -> None:
    momenta = {"base_momentum": 0.7, "max_momentum": 0.8}
    shape: dict[str, float] = {"start_fraction": 0.4, "start_divisor": 10.0, "final_divisor": 100.0}
    ours = OneCycle(make_two_groups(momentum=0.9), 50, **shape, **momenta)
    theirs = OneCycleLR(
        make_two_groups(momentum=0.9), [0.1, 0.02], 50, pct_start=0.4, div_factor=10, final_div_factor=100, **momenta
    )
    assert list_settings(ours, 50, name) == list_settings(theirs, 50, name)


def test_one_cycle_peaks_at_the_rate_of_the_optimizer_where_the_climb_ends() -> None:
    scheduler = OneCycle(make_two_groups(momentum=0.9), 100)
    rates = list_settings(scheduler, 100, "lr")
    assert rates[29] == max(rates) == pytest.approx([0.1, 0.02])
    assert rates[0] == pytest.approx([0.1 / 25, 0.02 / 25])
    assert rates[99] == pytest.approx([0.1 / 25e4, 0.02 / 25e4])


def test_one_cycle_moves_the_momentum_against_the_rate() -> None:
    momenta = [groups[0] for groups in list_settings(OneCycle(make_two_groups(momentum=0.9), 100), 100, "momentum")]
    assert (momenta[0], momenta[29], momenta[99]) == pytest.approx((0.95, 0.85, 0.95))
    betas = [groups[0] for groups in list_settings(OneCycle(make_two_groups(torch.optim.AdamW), 100), 100, "betas")]
    assert betas[29] == pytest.approx((0.85, 0.999))


@pytest.mark.parametrize(("steps", "fraction"), [(4, 0.25), (3, 0.3), (10, 0.0), (10, 1.0), (10, -0.5)])
def test_a_cycle_without_a_climb_or_a_fall_is_refused(steps: int, fraction: float) -> None:
    with pytest.raises(ValueError, match=f"start_fraction is {fraction}, .* run's {steps} optimizer steps"):
        OneCycle(make_two_groups(momentum=0.9), steps, start_fraction=fraction)


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_a_peak_that_is_not_positive_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="max_lr_factor must be positive"):
        OneCycle(make_two_groups(momentum=0.9), 10, max_lr_factor=factor)


def test_exponential_decay_is_torch_s_at_the_factor_that_ends_at_the_fraction() -> None:
    ours = list_rates(ExponentialDecay(make_optimizer(), 100, final_fraction=0.01), 101)
    assert ours == pytest.approx(list_rates(ExponentialLR(make_optimizer(), gamma=0.01 ** (1 / 100)), 101))
    assert (ours[0], ours[50], ours[100]) == pytest.approx((0.1, 0.01, 0.001))


def test_inverse_time_decay_is_the_rate_over_one_plus_k_t() -> None:
    ours = list_rates(InverseTimeDecay(make_optimizer(), 100, final_fraction=0.2), 101)
    theirs = LambdaLR(make_optimizer(), lambda step: 1 / (1 + 0.04 * step))
    assert ours == pytest.approx(list_rates(theirs, 101))
    assert (ours[0], ours[50], ours[100]) == pytest.approx((0.1, 0.1 / 3, 0.02))


@pytest.mark.parametrize("schedule", [ExponentialDecay, InverseTimeDecay])
def test_a_decay_takes_every_group_to_the_same_fraction_in_runs_of_any_length(schedule: Any) -> None:
    for steps in (7, 200):
        rates = list_settings(schedule(make_two_groups(), steps, final_fraction=0.1), steps + 1, "lr")
        assert rates[steps] == pytest.approx([0.01, 0.002])


@pytest.mark.parametrize("schedule", [ExponentialDecay, InverseTimeDecay])
@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5])
def test_a_final_fraction_that_is_none_is_refused(schedule: Any, fraction: float) -> None:
    with pytest.raises(ValueError, match=f"{schedule.__name__}: final_fraction is {fraction}"):
        schedule(make_optimizer(), 10, final_fraction=fraction)


@pytest.mark.parametrize("schedule", [ExponentialDecay, InverseTimeDecay, OneCycle])
def test_a_restored_schedule_of_every_kind_goes_on_as_the_first_one(schedule: Any) -> None:
    whole = list_settings(schedule(make_two_groups(momentum=0.9), 8), 8, "lr")
    first, second = (schedule(make_two_groups(momentum=0.9), 8) for _ in range(2))
    list_settings(first, 3, "lr")
    second.load_state_dict(first.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert list_settings(second, 5, "lr") == whole[3:]


def test_a_plateau_is_torch_s() -> None:
    scores = [0.5, 0.6, *[0.6] * 6, 0.7, *[0.5] * 11]
    ours = ReduceOnPlateau(make_optimizer(), total_steps=1)
    theirs = ReduceLROnPlateau(make_optimizer(), mode="max", factor=0.1, patience=4)
    rates: list[list[float]] = [[], []]
    for score in scores:
        for found, scheduler in zip(rates, (ours, theirs), strict=True):
            scheduler.step(score)
            found.append(scheduler.get_last_lr()[0])
    assert rates[0] == rates[1]
    assert rates[0] == pytest.approx([0.1] * 6 + [0.01] * 7 + [0.001] * 5 + [0.0001] * 2)


@pytest.mark.parametrize("arguments", [{"factor": 1.0}, {"mode": "most"}])
def test_a_plateau_that_torch_refuses_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Factor should be|mode most is unknown"):
        ReduceOnPlateau(make_optimizer(), total_steps=1, **arguments)


STALLED = {"optimizer": partial(torch.optim.SGD, lr=1e-5), "schedule": partial(ReduceOnPlateau, factor=0.5, patience=0)}
"""A module that learns so slowly that no validation beats the first: from the second on each halves the rate."""


class EpochRates(L.Callback):
    """Records the learning rate of each epoch, by its number, in units of the first."""

    def __init__(self) -> None:
        self.rates: dict[int, float] = {}

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self.rates[trainer.current_epoch] = trainer.optimizers[0].param_groups[0]["lr"] / 1e-5


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_plateau_is_stepped_once_per_validation(
    every: int, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    recorder = EpochRates()
    trainer = make_trainer(max_epochs=8, check_val_every_n_epoch=every, callbacks=[recorder])
    trainer.fit(make_module(**STALLED), datamodule=make_data())
    expected = [0.5 ** max(epoch // every - 1, 0) for epoch in range(8)]
    assert list(recorder.rates.values()) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("crash", [3, 4, 5, 6])
def test_a_plateau_goes_on_after_a_crash_as_if_there_had_been_none(
    crash: int, make_module: Make, make_data: Make, make_trainer: Make, tmp_path: Path
) -> None:
    path = tmp_path / "last.ckpt"
    recorder = EpochRates()
    settings = {"max_epochs": 8, "check_val_every_n_epoch": 2, "enable_checkpointing": True}
    callbacks = [recorder, EpochCheckpoint(path, min_seconds=0)]
    with pytest.raises(CrashError):
        make_trainer(callbacks=[*callbacks, Crash(crash)], **settings).fit(make_module(**STALLED), make_data())
    trainer = make_trainer(callbacks=callbacks, **settings)
    trainer.fit(make_module(**STALLED), datamodule=make_data(), ckpt_path=path, weights_only=True)
    assert list(recorder.rates.values()) == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25])


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_plateau_without_a_validation_at_the_end_of_epochs_is_refused(
    make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    trainer = make_trainer(check_val_every_n_epoch=None, val_check_interval=2)
    with pytest.raises(ValueError, match=r"waits for 'val/accuracy' .* check_val_every_n_epoch is None"):
        trainer.fit(make_module(**STALLED), datamodule=make_data())
