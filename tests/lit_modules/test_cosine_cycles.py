import math

import pytest
import torch
from torch import nn

from lit_modules.cosine_cycles import CosineCycles


def make_optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=2.0)


def rates(steps: int, **arguments: float) -> list[float]:
    optimizer = make_optimizer()
    schedule = CosineCycles(optimizer, steps, **arguments)  # type: ignore[arg-type]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(("steps", "cycles"), [(12, 1), (12, 3), (20, 5), (4, 4)])
def test_rates_are_those_of_the_paper(steps: int, cycles: int) -> None:
    length = steps // cycles
    expected = [2.0 / 2 * (math.cos(math.pi * ((step - 1) % length) / length) + 1) for step in range(1, steps + 1)]
    assert rates(steps, cycles=cycles) == pytest.approx(expected)


def test_each_cycle_falls_towards_the_lowest_rate() -> None:
    found = rates(100, cycles=2, min_lr=0.5)
    assert found[0] == found[50] == 2.0
    assert found[49] == found[99] == pytest.approx(0.5, abs=2e-3)
    assert min(found) >= 0.5


@pytest.mark.parametrize("cycles", [0, -1, 3])
def test_cycles_that_do_not_divide_the_run_are_refused(cycles: int) -> None:
    with pytest.raises(ValueError, match=f"{cycles} cycles do not divide the run's 10 optimizer steps"):
        CosineCycles(make_optimizer(), 10, cycles)
