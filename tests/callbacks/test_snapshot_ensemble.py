from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from torch.optim import Optimizer

from callbacks import EpochCheckpoint, ReseedEachEpoch, SnapshotEnsemble
from lit_modules.cosine_cycles import CosineCycles
from tests.helpers.crashes import CrashInValidation, SaveAt
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import CrashError, fit, fit_until_crash, make_trainer
from tests.helpers.scored_weight import ScoredWeight, score
from tests.helpers.small_net import SmallNet, Trajectory, flatten


def weights(snapshots: SnapshotEnsemble, module: ScoredWeight) -> dict[str, float]:
    return {name: float(state["weight"]) for name, state in snapshots.stored_weights(module).items()}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"cycles": 1}, [16]),
        ({"cycles": 2}, [8, 16]),
        ({"cycles": 4}, [4, 8, 12, 16]),
        ({"epochs": [1]}, [4]),
        ({"epochs": [2, 3]}, [8, 12]),
    ],
)
def test_snapshots_are_the_weights_at_the_ends_of_cycles_or_of_given_epochs(
    arguments: dict[str, Any], expected: list[float]
) -> None:
    module, snapshots = ScoredWeight(), SnapshotEnsemble(**arguments)
    fit(module, snapshots)
    assert weights(snapshots, module) == {f"snapshot-{n}": weight for n, weight in enumerate(expected, start=1)}


def test_snapshots_are_taken_where_the_cosine_cycles_end() -> None:
    def schedule(optimizer: Optimizer) -> dict[str, Any]:
        return {"scheduler": CosineCycles(optimizer, 16, cycles=2), "interval": "step"}

    module, snapshots = ScoredWeight(schedule=schedule), SnapshotEnsemble(cycles=2)
    fit(module, snapshots)
    rates = module.first_rates
    assert rates[0] == rates[8] == 1
    assert rates[:8] == rates[8:] == sorted(rates[:8], reverse=True)
    expected = {"snapshot-1": pytest.approx(sum(rates[:8])), "snapshot-2": pytest.approx(sum(rates))}
    assert weights(snapshots, module) == expected


def test_the_trajectory_is_the_same_with_and_without() -> None:
    plain, observed = Trajectory(), Trajectory()
    fit(SmallNet(), ReseedEachEpoch(0), plain)
    fit(SmallNet(), ReseedEachEpoch(0), SnapshotEnsemble(cycles=4), observed)
    assert len(plain.states) == 16
    assert observed.states == plain.states


def test_a_snapshot_is_the_whole_state(tmp_path: Path) -> None:
    module, snapshots, path = SmallNet(), SnapshotEnsemble(epochs=[2]), tmp_path / "second.ckpt"
    fit(module, snapshots, SaveAt(path, "on_train_epoch_end", epoch=1))
    saved = torch.load(path, weights_only=True)["state_dict"]
    stored = snapshots.stored_weights(module)["snapshot-1"]
    assert stored.keys() == saved.keys()
    assert flatten(stored) == flatten(saved)
    assert flatten(stored) != flatten(module.state_dict())


def test_frozen_parts_are_not_copied() -> None:
    snapshots = SnapshotEnsemble(cycles=2)
    fit(SmallNet(), snapshots)
    kept = snapshots.state_dict()["kept"]
    assert list(kept) == [2, 4]
    assert not any(name.startswith("teacher") for names in kept.values() for name in names)


def test_a_test_uses_the_modules_own_weights() -> None:
    module = ScoredWeight()
    trainer = fit(module, SnapshotEnsemble(cycles=2))
    assert score(trainer, module) == 16


def test_test_on_a_fresh_trainer_agrees_and_brings_the_snapshots_back(tmp_path: Path) -> None:
    trainer, path = fit(ScoredWeight(), SnapshotEnsemble(cycles=2)), tmp_path / "all.ckpt"
    trainer.save_checkpoint(path)
    fresh, snapshots = ScoredWeight(), SnapshotEnsemble(cycles=2)
    assert score(make_trainer(snapshots), fresh, ckpt_path=path) == 16
    assert weights(snapshots, fresh) == {"snapshot-1": 8, "snapshot-2": 16}


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(epoch: int, tmp_path: Path) -> None:
    whole, resumed, first, again = SmallNet(), SmallNet(), SnapshotEnsemble(cycles=4), SnapshotEnsemble(cycles=4)
    seed, checkpoint = ReseedEachEpoch(0), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, seed, first)
    fit_until_crash(SmallNet(), seed, SnapshotEnsemble(cycles=4), checkpoint, epoch=epoch)
    fit(resumed, seed, again, ckpt_path=checkpoint.path)
    ours, theirs = again.stored_weights(resumed), first.stored_weights(whole)
    assert list(ours) == list(theirs) == ["snapshot-1", "snapshot-2", "snapshot-3", "snapshot-4"]
    assert [flatten(state) for state in ours.values()] == [flatten(state) for state in theirs.values()]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("listed_first", [True, False])
@pytest.mark.parametrize(
    ("hook", "batch"),
    [("on_train_batch_end", 0), ("on_train_batch_end", 3), ("on_validation_end", None), ("on_train_epoch_end", None)],
)
def test_a_run_resumed_from_anywhere_keeps_every_snapshot(
    hook: str, batch: int | None, listed_first: bool, tmp_path: Path
) -> None:
    path, settings = tmp_path / "any.ckpt", {"accumulate_grad_batches": 2}
    saver, snapshots = SaveAt(path, hook, 1, batch), SnapshotEnsemble(cycles=4)
    fit(ScoredWeight(), *([saver, snapshots] if listed_first else [snapshots, saver]), **settings)
    module, again = ScoredWeight(), SnapshotEnsemble(cycles=4)
    fit(module, again, ckpt_path=path, **settings)
    assert list(weights(again, module).values()) == [2, 4, 6, 8]


@pytest.mark.filterwarnings("ignore:.*called without a model", "ignore:.*there is no last checkpoint available")
def test_a_run_resumed_from_an_exception_in_validation_keeps_every_snapshot(tmp_path: Path) -> None:
    with pytest.raises(CrashError):
        fit(ScoredWeight(), OnExceptionCheckpoint(tmp_path), CrashInValidation(epoch=1), SnapshotEnsemble(cycles=4))
    module, again = ScoredWeight(), SnapshotEnsemble(cycles=4)
    fit(module, again, ckpt_path=tmp_path / "on_exception.ckpt")
    assert list(weights(again, module).values()) == [4, 8, 12, 16]


def test_a_second_fit_with_the_same_callback_starts_anew() -> None:
    module, snapshots = ScoredWeight(), SnapshotEnsemble(cycles=2)
    fit(ScoredWeight(), snapshots)
    fit(module, snapshots, max_epochs=6)
    assert list(weights(snapshots, module).values()) == [12, 24]


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (partial(SnapshotEnsemble), {}, "give either cycles or epochs, not cycles=None and epochs=None"),
        (partial(SnapshotEnsemble, 2, [1]), {}, r"give either cycles or epochs, not cycles=2 and epochs=\[1\]"),
        (partial(SnapshotEnsemble, 0), {}, "cycles must be at least 1, not 0"),
        (partial(SnapshotEnsemble, epochs=[]), {}, r"epochs must be increasing numbers from 1 up, not \[\]"),
        (partial(SnapshotEnsemble, epochs=[2, 1]), {}, r"increasing numbers from 1 up, not \[2, 1\]"),
        (partial(SnapshotEnsemble, epochs=[0, 1]), {}, r"increasing numbers from 1 up, not \[0, 1\]"),
        (partial(SnapshotEnsemble, 3), {}, "3 cycles do not divide the run's 4 epochs. Choose one of 1, 2, 4 cycles"),
        (partial(SnapshotEnsemble, epochs=[2, 5]), {}, r"epochs=\[2, 5\], but the run ends after 4 epochs"),
        (
            partial(SnapshotEnsemble, 2),
            {"max_epochs": -1, "max_steps": 8},
            "max_epochs=-1 and max_steps=8. Set max_epochs",
        ),
        (partial(SnapshotEnsemble, 2), {"max_steps": 8}, "max_epochs=4 and max_steps=8. Set max_epochs alone"),
    ],
)
def test_what_cannot_be_is_refused_before_training(make: Any, settings: dict[str, Any], message: str) -> None:
    module = ScoredWeight()
    with pytest.raises(ValueError, match=message):
        fit(module, make(), **settings)
    assert module.weight == 0


def fit_two_processes() -> dict[str, float]:
    module, snapshots = ScoredWeight(), SnapshotEnsemble(cycles=2)
    fit_distributed(module, snapshots)
    return weights(snapshots, module)


def fit_net_two_processes() -> list[list[float]]:
    module, snapshots = SmallNet(), SnapshotEnsemble(cycles=2)
    fit_distributed(module, snapshots)
    return [flatten(state) for state in snapshots.stored_weights(module).values()]


def test_two_processes_keep_what_one_keeps() -> None:
    assert run_distributed(fit_two_processes) == [{"snapshot-1": 8, "snapshot-2": 16}] * 2


def test_two_processes_keep_the_same_snapshots() -> None:
    first, second = run_distributed(fit_net_two_processes)
    assert first == second
