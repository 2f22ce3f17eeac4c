import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.testing import assert_close

from callbacks import CostMonitor, EpochCheckpoint, LinearWarmup, MetricHistory, ReseedEachEpoch, epoch_checkpoint
from tests.callbacks.noisy_net import SCHEDULES, NoisyNet, training_state
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import OneWeight, fit, fit_until_crash

LIMITS = {"max_epochs": {"max_epochs": 5}, "max_steps": {"max_epochs": -1, "max_steps": 19}}


def active() -> list[L.Callback]:
    return [LinearWarmup(epochs=1.5), ReseedEachEpoch(seed=3)]


def disturb_generators() -> None:
    """Stand for whatever a process draws before it resumes a run."""
    torch.manual_seed(random.SystemRandom().getrandbits(32))


@pytest.fixture
def saves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list that fills with the epochs and steps at which a checkpoint is saved."""
    saved: list[tuple[int, int]] = []
    save = L.Trainer.save_checkpoint

    def record(trainer: L.Trainer, *arguments: Any, **settings: Any) -> None:
        saved.append((trainer.current_epoch, trainer.global_step))
        save(trainer, *arguments, **settings)

    monkeypatch.setattr(L.Trainer, "save_checkpoint", record)
    return saved


def test_every_epoch_is_saved_but_the_last(saves: list[tuple[int, int]], tmp_path: Path) -> None:
    checkpoint = EpochCheckpoint(tmp_path / "new" / "last.ckpt", min_seconds=0)
    fit(OneWeight(), checkpoint)
    assert saves == [(1, 4), (2, 8), (3, 12)]
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["last.ckpt"]
    saved = torch.load(checkpoint.path, weights_only=True)
    assert (saved["epoch"], saved["global_step"], float(saved["state_dict"]["weight"])) == (3, 12, 12.0)


def test_an_epoch_in_which_the_run_stops_is_not_saved(saves: list[tuple[int, int]], tmp_path: Path) -> None:
    fit(OneWeight(), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0), max_steps=6)
    assert saves == [(1, 4)]


def test_a_second_fit_saves_the_same_epochs(saves: list[tuple[int, int]], tmp_path: Path) -> None:
    checkpoint = EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(OneWeight(), checkpoint)
    fit(OneWeight(), checkpoint)
    assert saves == [(1, 4), (2, 8), (3, 12)] * 2


def test_checkpoints_are_at_least_min_seconds_apart(
    saves: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch lasts 10 seconds, and so did what came before the training."""
    clock = SimpleNamespace(monotonic=lambda: 10.0 * (1 + trainer_steps() // 4))
    module = OneWeight()

    def trainer_steps() -> int:
        return int(module.steps)

    monkeypatch.setattr(epoch_checkpoint, "time", clock)
    fit(module, EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=20), max_epochs=8)
    assert [epoch for epoch, _ in saves] == [2, 4, 6]


def test_a_checkpoint_that_cannot_be_finished_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    save = TorchCheckpointIO.save_checkpoint

    def fill_the_disk(plugin: TorchCheckpointIO, content: dict[str, Any], path: Path, **options: Any) -> None:
        save(plugin, content, path)
        if content["epoch"] == 2:
            Path(path).write_bytes(Path(path).read_bytes()[:100])
            raise OSError("No space left on device")

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", fill_the_disk)
    with pytest.raises(OSError, match="No space"):
        fit(OneWeight(), checkpoint)
    monkeypatch.undo()
    resumed = OneWeight()
    assert torch.load(checkpoint.path, weights_only=True)["epoch"] == 1
    fit(resumed, ckpt_path=checkpoint.path)
    assert resumed.steps == 16


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("validate_every", [1, 2])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_interrupted_at_any_epoch_ends_as_if_it_had_not_been(
    schedule: str, validate_every: int, limit: str, tmp_path: Path
) -> None:
    settings = {**LIMITS[limit], "check_val_every_n_epoch": validate_every}
    whole = fit(NoisyNet(schedule), *active(), MetricHistory(tmp_path / "whole.csv"), **settings)
    for epoch in (1, 2, 3, 4):
        disturb_generators()
        callbacks = [*active(), EpochCheckpoint(tmp_path / "last.ckpt", 0), MetricHistory(tmp_path / "metrics.csv")]
        path = None if epoch == 1 else tmp_path / "last.ckpt"  # each run resumes the one before
        fit_until_crash(NoisyNet(schedule), *callbacks, epoch=epoch, ckpt_path=path, **settings)
        disturb_generators()
        history = MetricHistory(tmp_path / "metrics.csv")
        resumed = fit(
            NoisyNet(schedule),
            *active(),
            history,
            EpochCheckpoint(tmp_path / "other.ckpt", 0),
            ckpt_path=tmp_path / "last.ckpt",
            **settings,
        )
        assert_close(training_state(resumed), training_state(whole), rtol=0, atol=0)
        assert history.path.read_text() == (tmp_path / "whole.csv").read_text()


def test_the_schedules_of_these_runs_all_move() -> None:
    """Or a scheduler's step that is lost could not be seen."""
    for schedule in SCHEDULES:
        trainer = fit(NoisyNet(schedule), ReseedEachEpoch(seed=3), max_epochs=5)
        assert trainer.optimizers[0].param_groups[0]["lr"] <= 0.05, schedule


def test_a_run_whose_batches_come_from_workers_resumes_exactly(tmp_path: Path) -> None:
    whole = fit(NoisyNet(num_workers=1), *active(), max_epochs=2)
    checkpoint = EpochCheckpoint(tmp_path / "last.ckpt", 0)
    fit_until_crash(NoisyNet(num_workers=1), *active(), checkpoint, epoch=1, max_epochs=2)
    disturb_generators()
    resumed = fit(NoisyNet(num_workers=1), *active(), ckpt_path=checkpoint.path, max_epochs=2)
    assert_close(training_state(resumed), training_state(whole), rtol=0, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_observers_leave_the_trajectory_bit_for_bit_as_it_was(schedule: str, tmp_path: Path) -> None:
    without = fit(NoisyNet(schedule), *active())
    observers = [EpochCheckpoint(tmp_path / "last.ckpt", 0), MetricHistory(tmp_path / "metrics.csv"), CostMonitor()]
    observed = fit(NoisyNet(schedule), *active(), *observers)
    assert all(observer.observes_only for observer in observers)
    assert_close(training_state(observed), training_state(without), rtol=0, atol=0)
    assert observed.fit_loop.state_dict() == without.fit_loop.state_dict()


def interrupt_and_resume(folder: Path) -> list[Any]:
    """Return the rows of the history and the weights of a run under DDP, whole and resumed."""
    checkpoint = EpochCheckpoint(folder / "last.ckpt", 0)
    ends = []
    for name, path in (("whole", None), ("resumed", checkpoint.path)):
        callbacks = [*active(), MetricHistory(folder / f"{name}.csv"), CostMonitor()]
        trainer = fit_distributed(NoisyNet(), *callbacks, *([] if path else [checkpoint]), ckpt_path=path)
        state = trainer.lightning_module.state_dict()
        ends.append({name: tensor.tolist() for name, tensor in state.items()})
        disturb_generators()
    return ends


def test_two_processes_resume_exactly(tmp_path: Path) -> None:
    for whole, resumed in run_distributed(interrupt_and_resume, tmp_path):
        assert resumed == whole
    assert (tmp_path / "resumed.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert len((tmp_path / "whole.csv").read_text().splitlines()) == 5
