"""Schedules against torch's own."""

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from lit_modules.schedules import FractionalMultiStepLR


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
