import functools
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from callbacks.training_step_wrapper import TrainingStepWrapper
from tests.helpers.one_weight import OneWeight, fit


def times(factor: float) -> Any:
    """Return what multiplies a step's loss."""
    return lambda training_step, *rest: factor * training_step(*rest)


@pytest.mark.parametrize("removed_first", [0, 1, 2])
def test_wrappers_lie_around_each_other_and_are_removed_in_any_order(removed_first: int) -> None:
    module = OneWeight()
    factors = [2.0, 3.0, 5.0]
    wrappers = [TrainingStepWrapper(module, times(factor)) for factor in factors]
    fit(module, max_epochs=1)
    assert module.steps == 4 * 30
    wrappers.pop(removed_first).remove()
    left = 30 / factors[removed_first]
    fit(module, max_epochs=1)
    assert module.steps == 4 * 30 + 4 * left
    for wrapper in wrappers:
        wrapper.remove()
    assert "training_step" not in vars(module)
    fit(module, max_epochs=1)
    assert module.steps == 4 * 30 + 4 * left + 4


def test_the_last_wrapper_is_outermost() -> None:
    module = OneWeight()
    torch.nn.init.ones_(module.weight)
    TrainingStepWrapper(module, lambda training_step, *rest: training_step(*rest) + 1)
    TrainingStepWrapper(module, times(10))
    assert float(module.training_step(torch.zeros(1), 0).detach()) == 10 * (-1 + 1)


def test_a_wrapper_s_second_removal_changes_nothing() -> None:
    module = OneWeight()
    first, second = TrainingStepWrapper(module, times(2)), TrainingStepWrapper(module, times(3))
    second.remove()
    second.remove()
    fit(module, max_epochs=1)
    assert module.steps == 4 * 2
    first.remove()
    assert "training_step" not in vars(module)


def test_a_step_that_the_user_set_on_the_instance_comes_back() -> None:
    module = OneWeight()
    own = functools.partial(OneWeight.training_step, module)
    module.training_step = own
    TrainingStepWrapper(module, times(2)).remove()
    assert module.training_step is own


def test_a_function_that_somebody_else_put_around_it_stays() -> None:
    module = OneWeight()
    wrapper = TrainingStepWrapper(module, times(2))
    inner = module.training_step

    @functools.wraps(inner)
    def around(*given: Any) -> Tensor:
        return 10 * inner(*given)

    module.training_step = around
    wrapper.remove()
    assert module.training_step is around
    fit(module, max_epochs=1)
    assert module.steps == 4 * 10


def test_a_step_without_the_index_of_the_batch_is_called_without_it() -> None:
    class Plain(OneWeight):
        def training_step(self, batch: Tensor) -> Tensor:  # type: ignore[override]
            return -self.weight

    module, seen = Plain(), []

    def around(training_step: Any, *rest: Any) -> Tensor:
        seen.append(len(rest))
        return training_step(*rest)

    TrainingStepWrapper(module, around)
    fit(module, max_epochs=1)
    assert seen == [1] * 4


def test_the_function_runs_in_autocast_where_the_step_does() -> None:
    module, seen = OneWeight(), set()

    def around(training_step: Any, *rest: Any) -> Tensor:
        seen.add(torch.is_autocast_enabled("cpu"))
        return training_step(*rest)

    TrainingStepWrapper(module, around)
    fit(module, precision="bf16-mixed", max_epochs=1)
    assert seen == {True}


def test_lightning_still_finds_the_step() -> None:
    module = OneWeight()
    TrainingStepWrapper(module, times(1))
    assert L.pytorch.utilities.model_helpers.is_overridden("training_step", module)
