"""The sizes that the digits network sees, batch by batch."""

import re
from typing import Any

import lightning as L
import pytest
import torch

from ablations.errors import RecipeError
from ablations.parsing import build, resolve
from tests.ablations.tricks.case import QUIET, edited


def see_sizes(recipe: dict[str, Any]) -> list[int]:
    """Train a recipe for three epochs of two batches, and return the size of each training batch."""
    L.seed_everything(7)
    parts, sizes = build(resolve(recipe)), []

    def look(network: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        assert network.training
        sizes.append(inputs[0].shape[-1])

    parts.module.network.register_forward_pre_hook(look)
    arguments = {"max_epochs": 3, "limit_train_batches": 2, "limit_val_batches": 0}
    trainer = L.Trainer(**{**parts.trainer_arguments, **QUIET, **arguments})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    return sizes


def test_multi_scale_training_takes_the_sizes_of_the_callback_from_the_seed_of_the_training() -> None:
    arguments = {"smallest": 6, "largest": 12, "divisor": 2, "every_n_batches": 1}
    recipe = edited("multi_scale_training", **arguments)
    L.seed_everything(7)
    (callback,) = build(resolve(recipe)).trainer_arguments["callbacks"]
    expected = [callback.draw(epoch, batch) for epoch in range(3) for batch in range(2)]
    assert see_sizes(recipe) == expected
    assert len(set(expected)) > 1
    assert set(expected) <= {6, 8, 10, 12}


def test_multi_scale_training_may_be_given_its_sizes() -> None:
    sizes = see_sizes(edited("multi_scale_training", sizes=[4, 12], divisor=4, every_n_batches=1))
    assert set(sizes) == {4, 12}


def test_progressive_resizing_ends_in_full_size() -> None:
    assert see_sizes(edited("progressive_resizing", sizes=[4, 6], divisor=2)) == [4, 4, 6, 6, 8, 8]


@pytest.mark.parametrize(
    ("name", "arguments", "sizes"),
    [
        ("progressive_resizing", {"sizes": [4, 6], "divisor": 4}, [4, 6]),
        ("progressive_resizing", {"sizes": [8, 4], "divisor": 4}, [8, 4]),
        ("progressive_resizing", {"sizes": [], "divisor": 4}, []),
        ("multi_scale_training", {"smallest": 4, "largest": 7, "divisor": 4}, [4, 7]),
        ("multi_scale_training", {"sizes": [0, 4], "divisor": 4}, [0, 4]),
        ("multi_scale_training", {"divisor": 0}, [320, 608]),
    ],
)
def test_sizes_that_cannot_be_are_refused(name: str, arguments: dict[str, Any], sizes: list[int]) -> None:
    divisor = arguments["divisor"]
    message = re.escape(f"{name}: the sizes are {sizes} and divisor is {divisor}; sizes are positive multiples of the")
    with pytest.raises(RecipeError, match=message):
        edited(name, **arguments)


def test_a_second_trick_on_the_size_is_refused() -> None:
    first = edited("progressive_resizing", edited("linear_warmup"), sizes=[4, 6], divisor=2)
    with pytest.raises(RecipeError, match="multi_scale_training: ProgressiveResizing chooses the size of the training"):
        edited("multi_scale_training", first, sizes=[4, 6], divisor=2)
    second = edited("multi_scale_training", sizes=[4, 6], divisor=2)
    with pytest.raises(RecipeError, match="progressive_resizing: MultiScale chooses the size of the training images"):
        edited("progressive_resizing", second, sizes=[4, 6], divisor=2)
