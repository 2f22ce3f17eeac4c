"""What holds for every callback that keeps weights, alone and two by two."""

import itertools
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn

from callbacks import (
    EMA,
    SWA,
    BatchNormStatistics,
    BestWeights,
    EpochCheckpoint,
    EqualAverage,
    FreezeBackbone,
    LinearWarmup,
    MagnitudePruning,
    MeanTeacher,
    PseudoLabels,
    ReseedEachEpoch,
    SnapshotEnsemble,
    StoredWeights,
)
from callbacks.running_average import RunningAverage
from callbacks.trained_tensors import complete_state
from callbacks.weight_loan import WeightLoan
from tests.callbacks.unlabeled_points import UnlabeledPoints
from tests.helpers.one_weight import fit, fit_until_crash, make_trainer
from tests.helpers.scored_weight import ScoredWeight, score
from tests.helpers.small_net import SmallNet, Trajectory, flatten

KEEPERS: dict[str, Callable[[], StoredWeights]] = {
    "ema": lambda: EMA(0.9),
    "equal average": lambda: EqualAverage(0.5),
    "swa": lambda: SWA(0.1, 0.5),
    "cyclic swa": lambda: SWA(0.1, 0.5, cycle_epochs=1),
    "best": lambda: BestWeights("val/loss", "min"),
    "snapshots": lambda: SnapshotEnsemble(cycles=2),
    "batch norm": BatchNormStatistics,
    "mean teacher": MeanTeacher,
}
CALLBACKS: dict[str, Callable[[], L.Callback]] = {
    **KEEPERS,
    "warm-up": lambda: LinearWarmup(1.5),
    "freezing": lambda: FreezeBackbone(["network.0"], until_epoch=2),
    "pruning": lambda: MagnitudePruning(keep=0.7),
    "pseudo-labels": lambda: PseudoLabels(0.6, start_epoch=1, every_n_epochs=2),
}
PAIRS = [pair for pair in itertools.combinations(CALLBACKS, 2) if pair != ("swa", "cyclic swa")]
IN_ORDER = {("mean teacher", "pseudo-labels")}
"""Both add images to a step, so that the one which stands first decides what the other sees."""
every_keeper = pytest.mark.parametrize("make", KEEPERS.values(), ids=KEEPERS.keys())


def all_stored(callbacks: Sequence[L.Callback], module: L.LightningModule) -> dict[str, list[float]]:
    keepers = [callback for callback in callbacks if isinstance(callback, StoredWeights)]
    return {name: flatten(state) for keeper in keepers for name, state in keeper.stored_weights(module).items()}


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_pairs_train_and_resume(pair: tuple[str, str], tmp_path: Path) -> None:
    other_order = pair if pair in IN_ORDER else pair[::-1]
    crashed, whole, resumed = ([CALLBACKS[name]() for name in order] for order in (pair, pair, other_order))
    first, second = SmallNet(), SmallNet()
    seed, checkpoint = ReseedEachEpoch(0), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(first, seed, *whole, datamodule=UnlabeledPoints())
    fit_until_crash(SmallNet(), seed, *crashed, checkpoint, epoch=3, datamodule=UnlabeledPoints())
    fit(second, seed, *resumed, datamodule=UnlabeledPoints(), ckpt_path=checkpoint.path)
    assert flatten(second.state_dict()) == flatten(first.state_dict())
    assert all_stored(resumed, second) == all_stored(whole, first)
    counts = {"snapshots": 2, "warm-up": 0, "freezing": 0, "pruning": 0, "pseudo-labels": 0}
    assert len(all_stored(whole, first)) == sum(counts.get(name, 1) for name in pair)


def test_observers_together_keep_what_each_keeps_alone() -> None:
    observers = [name for name in KEEPERS if KEEPERS[name]().observes_only]
    assert len(observers) == 5
    alone, together = {}, [KEEPERS[name]() for name in observers]
    for callback in together:
        callback.validate_with_average = False
    for name in observers:
        module, callback = SmallNet(), KEEPERS[name]()
        fit(module, ReseedEachEpoch(0), callback)
        alone.update(all_stored([callback], module))
    plain, observed, module = Trajectory(), Trajectory(), SmallNet()
    fit(SmallNet(), ReseedEachEpoch(0), plain)
    fit(module, ReseedEachEpoch(0), *together, observed)
    assert observed.states == plain.states
    assert all_stored(together, module) == alone
    assert len(alone) == 6


@every_keeper
def test_stored_weights_are_whole_state_dicts_that_a_fresh_module_loads(make: Callable[[], StoredWeights]) -> None:
    module, callback = SmallNet(), make()
    fit(module, callback)
    for state in callback.stored_weights(module).values():
        fresh = SmallNet()
        fresh.load_state_dict(state)
        assert flatten(fresh.state_dict()) == flatten(state)
        assert not any(tensor.requires_grad for tensor in state.values())


@every_keeper
def test_stored_weights_are_copies(make: Callable[[], StoredWeights]) -> None:
    module, callback = SmallNet(), make()
    fit(module, callback)
    before = flatten(module.state_dict())
    for state in callback.stored_weights(module).values():
        for tensor in state.values():
            tensor.zero_()
    assert flatten(module.state_dict()) == before
    assert all(any(state.values()) for state in all_states(callback, module))


def all_states(callback: StoredWeights, module: L.LightningModule) -> list[dict[str, bool]]:
    states = callback.stored_weights(module).values()
    return [{name: bool((tensor != 0).any()) for name, tensor in state.items()} for state in states]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("EMA", {"decay": 0.99, "every_n_steps": 2}),
        ("EqualAverage", {"start_fraction": 0.5}),
        ("SWA", {"lr": 0.1, "cycle_epochs": 2, "min_lr": 0.01}),
        ("BestWeights", {"monitor": "val/map", "mode": "max"}),
        ("SnapshotEnsemble", {"cycles": 3}),
        ("SnapshotEnsemble", {"epochs": [1, 2]}),
        ("BatchNormStatistics", {"batches": 100}),
        ("MeanTeacher", {"weight": 5.0, "noise_sd": 0.0}),
        ("PseudoLabels", {"threshold": 0.95, "batch_size": 16}),
        ("MagnitudePruning", {"keep": 0.25}),
    ],
)
def test_callbacks_are_built_from_a_configuration(name: str, arguments: dict[str, Any]) -> None:
    parser = LightningArgumentParser()
    parser.add_argument("--callback", type=L.Callback)
    config = parser.parse_object({"callback": {"class_path": f"callbacks.{name}", "init_args": arguments}})
    resolved = json.loads(parser.dump(config, format="json", skip_unset=False))["callback"]
    callback = parser.instantiate(config).callback
    assert type(callback).__name__ == name
    assert arguments.items() <= resolved["init_args"].items()
    assert {argument: getattr(callback, argument) for argument in resolved["init_args"]} == resolved["init_args"]


@pytest.mark.parametrize(
    "make", [lambda: EMA(every_n_steps=9), lambda: SWA(0.1, 0.5, 3), lambda: SnapshotEnsemble(cycles=3)]
)
def test_a_trial_of_one_step_is_not_refused_for_its_length(make: Callable[[], StoredWeights]) -> None:
    module = ScoredWeight()
    fit(module, make(), fast_dev_run=True)
    assert module.weight > 0


@every_keeper
def test_nothing_is_stored_before_a_fit(make: Callable[[], StoredWeights]) -> None:
    assert make().stored_weights(SmallNet()) == {}


@every_keeper
def test_callbacks_go_through_pickle(make: Callable[[], StoredWeights]) -> None:
    module, callback = SmallNet(), make()
    fit(module, callback)
    again = pickle.loads(pickle.dumps(callback))
    assert all_stored([again], module) == all_stored([callback], module)


@every_keeper
@pytest.mark.parametrize("strategy", [FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy])
def test_w13_strategies_that_shard_are_refused(make: Callable[[], StoredWeights], strategy: type) -> None:
    trainer: Any = SimpleNamespace(strategy=strategy.__new__(strategy))
    with pytest.raises(ValueError, match=f"{strategy.__name__} shards the module, and a callback sees only its shard"):
        make().setup(trainer, ScoredWeight(), "fit")


def test_two_that_would_validate_with_their_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="EMA and EqualAverage would each validate with their weights"):
        fit(ScoredWeight(), EMA(), EqualAverage(validate_with_average=True))


def test_two_that_would_lend_their_weights_to_a_test_are_refused_and_the_module_is_left_alone() -> None:
    module = ScoredWeight()
    trainer = fit(module, EMA(), EqualAverage())
    with pytest.raises(ValueError, match="EMA and EqualAverage would both lend the module their weights"):
        score(trainer, module)
    assert module.weight == 16


def test_several_weights_can_each_be_tested_in_a_fresh_trainer() -> None:
    module, ema, average = ScoredWeight(), EMA(0.5, warmup=False), EqualAverage(0.5)
    fit(module, ema, average)
    for callback, expected in ((ema, 15), (average, 14)):
        (state,) = callback.stored_weights(module).values()
        module.load_state_dict(state)
        assert score(make_trainer(), module) == pytest.approx(expected, abs=1e-4)


def test_lightnings_checkpoints_of_the_best_average_hold_both(tmp_path: Path) -> None:
    module, ema = ScoredWeight(), EMA(0.5, warmup=False)
    keeper = ModelCheckpoint(tmp_path, monitor="val/weight", mode="min")
    trainer = fit(module, ema, keeper)
    assert score(trainer, module, ckpt_path="best") == module.validated[0]
    assert module.weight == 4


class Tied(nn.Module):
    """Two names for one weight, and a state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight

    def get_extra_state(self) -> dict[str, str]:
        return {"kind": "tied"}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_a_loan_keeps_the_state_dict_and_gives_every_value_back() -> None:
    module = Tied()
    own = module.first.weight.detach().clone()
    loan = WeightLoan(module, {"first.weight": torch.ones(2, 2)})
    loan.begin()
    assert torch.equal(module.second.weight, torch.ones(2, 2))
    state = module.state_dict()
    assert torch.equal(state["first.weight"], own)
    assert torch.equal(state["second.weight"], own)
    parent = nn.ModuleDict({"child": module}).state_dict()
    assert torch.equal(parent["child.second.weight"], own)
    loan.end()
    assert torch.equal(module.first.weight, own)
    module.first.weight.data.zero_()
    assert torch.equal(module.state_dict()["second.weight"], torch.zeros(2, 2))


@pytest.mark.parametrize("weights", [{"third.weight": torch.ones(2, 2)}, {"first.weight": torch.ones(3, 2)}])
def test_a_loan_of_another_modules_weights_is_refused(weights: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="Tied has no tensors of the names and shapes of"):
        WeightLoan(Tied(), weights)


def test_tied_weights_are_replaced_at_all_their_places() -> None:
    state = complete_state(Tied(), {"first.weight": torch.ones(2, 2)})
    assert torch.equal(state["first.weight"], torch.ones(2, 2))
    assert torch.equal(state["second.weight"], torch.ones(2, 2))
    assert state["_extra_state"] == {"kind": "tied"}


def test_an_average_of_another_module_is_refused() -> None:
    average = RunningAverage()
    average.follow(Tied())
    with pytest.raises(ValueError, match=r"Linear has no first.weight. The average is of another module"):
        average.follow(nn.Linear(2, 2))
