import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from callbacks import EMA, EpochCheckpoint, EqualAverage, MagnitudePruning, ReseedEachEpoch
from callbacks.pruning import choose_masks
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import fit, fit_until_crash
from tests.helpers.scored_weight import UnsizedWeight
from tests.helpers.small_net import SmallNet, flatten

WEIGHTS = ["network.0.weight", "network.4.weight"]
KEEP, LEFT, WHOLE = 0.7, 46, 26  # of 66 trained parameters, of which 26 are biases and batch norm


def count_zeros(state: dict[str, Tensor]) -> int:
    return sum(int((state[name] == 0).sum()) for name in WEIGHTS)


class Zeros(L.Callback):
    """Counts the zeros before the first batch and after each."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.counts.append(count_zeros(pl_module.state_dict()))


@pytest.mark.parametrize(("start_fraction", "step"), [(0.0, 0), (0.5, 8), (0.8, 12), (0.95, 15)])
def test_weights_are_pruned_once_and_stay_so(start_fraction: float, step: int) -> None:
    zeros = Zeros()
    fit(SmallNet(), MagnitudePruning(KEEP, start_fraction), zeros)
    assert zeros.counts == [0] * step + [66 - LEFT] * (16 - step)


def test_the_smallest_magnitudes_of_all_layers_go() -> None:
    module = SmallNet()
    masks = choose_masks(module, KEEP)
    prune.global_unstructured(
        [(module.network[0], "weight"), (module.network[4], "weight")], prune.L1Unstructured, amount=66 - LEFT
    )
    assert list(masks) == WEIGHTS
    assert torch.equal(masks[WEIGHTS[0]], module.network[0].weight_mask.bool())
    assert torch.equal(masks[WEIGHTS[1]], module.network[4].weight_mask.bool())


@pytest.mark.parametrize("keep", [0.5, 0.61, 0.99])
def test_the_share_that_is_left_counts_all_parameters(keep: float) -> None:
    masks = choose_masks(SmallNet(), keep)
    assert sum(int(mask.sum()) for mask in masks.values()) + WHOLE == math.floor(keep * 66)


def test_the_mask_is_of_the_weights_before_the_step_and_the_rest_is_trained_as_ever() -> None:
    class Snapshots(L.Callback):
        def __init__(self) -> None:
            self.states: list[dict[str, Tensor]] = []

        def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})

    plain, pruned, callback = Snapshots(), Snapshots(), MagnitudePruning(KEEP)
    fit(SmallNet(), ReseedEachEpoch(0), plain)
    fit(SmallNet(), ReseedEachEpoch(0), callback, pruned)
    for name in WEIGHTS:
        torch.testing.assert_close(pruned.states[8][name], plain.states[8][name] * callback.masks[name])
        assert not torch.equal(pruned.states[9][name], pruned.states[8][name])


def test_names_and_shapes_are_those_of_the_whole_network() -> None:
    module = SmallNet()
    fit(module, MagnitudePruning(KEEP))
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in SmallNet().state_dict().items()}


@pytest.mark.parametrize("listed_first", [True, False])
@pytest.mark.parametrize("make", [lambda: EMA(0.999), lambda: EqualAverage(0.25)])
def test_averages_are_pruned_too_where_they_began_before(make: Any, listed_first: bool) -> None:
    module, average, pruning = SmallNet(), make(), MagnitudePruning(KEEP)
    fit(module, *([average, pruning] if listed_first else [pruning, average]))
    (state,) = average.stored_weights(module).values()
    assert count_zeros(state) == 66 - LEFT
    assert all(not state[name][~pruning.masks[name]].any() for name in WEIGHTS)


def test_pruned_weights_have_no_part_in_the_gradient() -> None:
    norms = []

    class Norms(L.Callback):
        def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, _: Any) -> None:
            gradients = dict(pl_module.named_parameters())
            norms.append(max(float(gradients[name].grad[gradients[name] == 0].abs().sum()) for name in WEIGHTS))

    fit(SmallNet(), MagnitudePruning(KEEP, 0.0), Norms(), gradient_clip_val=0.1)
    assert norms == [0.0] * 16


def test_optimizer_steps_are_counted_not_batches() -> None:
    zeros = Zeros()
    fit(SmallNet(), MagnitudePruning(KEEP), zeros, accumulate_grad_batches=2)
    assert zeros.counts == [0] * 8 + [66 - LEFT] * 8


def test_the_number_of_parameters_that_are_left_is_logged() -> None:
    seen = []

    class Read(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            seen.append(trainer.callback_metrics.get("train/parameters_left"))

    trainer = fit(SmallNet(), MagnitudePruning(KEEP), Read())
    assert seen == [None, 66, 66, LEFT]
    assert trainer.callback_metrics["train/parameters_left"] == LEFT


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(epoch: int, tmp_path: Path) -> None:
    whole, resumed, callback = SmallNet(), SmallNet(), MagnitudePruning(KEEP)
    seed, checkpoint = ReseedEachEpoch(0), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, seed, MagnitudePruning(KEEP))
    fit_until_crash(SmallNet(), seed, MagnitudePruning(KEEP), checkpoint, epoch=epoch)
    fit(resumed, seed, callback, ckpt_path=checkpoint.path)
    assert flatten(resumed.state_dict()) == flatten(whole.state_dict())
    assert count_zeros(resumed.state_dict()) == 66 - LEFT


def test_a_resumed_run_has_the_masks_before_its_first_batch(tmp_path: Path) -> None:
    class Look(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            seen.append(sum(int(mask.sum()) for mask in callback.masks.values()))

    seen: list[int] = []
    callback, checkpoint = MagnitudePruning(KEEP), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit_until_crash(SmallNet(), MagnitudePruning(KEEP), checkpoint, epoch=3)
    fit(SmallNet(), callback, Look(), ckpt_path=checkpoint.path)
    assert seen == [LEFT - WHOLE]


def test_a_second_fit_prunes_anew() -> None:
    callback, zeros = MagnitudePruning(KEEP), Zeros()
    fit(SmallNet(), callback)
    fit_until_crash(SmallNet(), callback, epoch=3)
    fit(SmallNet(), callback, zeros)
    assert zeros.counts == [0] * 8 + [66 - LEFT] * 8


def test_after_the_fit_the_module_can_be_trained_on_freely() -> None:
    module = SmallNet()
    fit(module, ReseedEachEpoch(0), MagnitudePruning(KEEP))
    fit(module, ReseedEachEpoch(0), max_epochs=1)
    assert count_zeros(module.state_dict()) < 66 - LEFT


def fit_two_processes() -> tuple[list[float], int]:
    module = SmallNet()
    fit_distributed(module, ReseedEachEpoch(0), MagnitudePruning(KEEP))
    return flatten(dict(module.named_parameters())), count_zeros(module.state_dict())


def test_two_processes_prune_the_same_weights() -> None:
    first, second = run_distributed(fit_two_processes)
    assert first == second
    assert first[1] == 66 - LEFT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": 0.0}, "keep must be between 0 and 1, not 0.0"),
        ({"keep": 1.0, "start_fraction": 1.0}, "not 1.0; start_fraction must be from 0 to below 1, a part of the run"),
        ({"keep": 0.5, "start_fraction": -0.1}, "start_fraction must be .* not -0.1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"MagnitudePruning: .*{message}"):
        MagnitudePruning(**arguments)


def test_what_leaves_no_weight_is_refused_when_training_begins() -> None:
    message = r"keep=0.4 leaves 26 of 66 trained parameters, but 26 are biases.* Set keep to more than 0.394"
    with pytest.raises(ValueError, match=message):
        fit(SmallNet(), MagnitudePruning(0.4))


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*max_epochs.*was not set")
def test_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="the trainer says that it has -1 steps"):
        fit(UnsizedWeight(), MagnitudePruning(0.5), max_epochs=2)


def test_frozen_parameters_are_neither_pruned_nor_counted() -> None:
    module = nn.ModuleList([nn.Linear(4, 5, bias=False), nn.Linear(4, 5, bias=False).requires_grad_(False)])
    masks = choose_masks(module, 0.5)
    assert list(masks) == ["0.weight"]
    assert masks["0.weight"].sum() == 10
