from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader

from callbacks import EpochCheckpoint, EqualAverage, ReseedEachEpoch
from tests.helpers.crashes import CrashInValidation, SaveAt, load
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import CrashError, fit, fit_until_crash, make_trainer
from tests.helpers.scored_weight import ScoredWeight, UnsizedWeight, score
from tests.helpers.small_net import BATCH, SmallNet, Trajectory, flatten

EPOCH_ENDS = [4, 8, 12, 16]


def stored(average: EqualAverage, module: L.LightningModule) -> float:
    return float(average.stored_weights(module)["average"]["weight"])


class Stop(L.Callback):
    """End the run at the end of an epoch, or within it."""

    def __init__(self, epoch: int, batch: int | None = None) -> None:
        self.place = (epoch, batch)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer.should_stop |= (trainer.current_epoch, batch_idx) == self.place

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop |= (trainer.current_epoch, None) == self.place


@pytest.mark.parametrize(
    ("start_fraction", "ends"),
    [(0, EPOCH_ENDS), (0.24, EPOCH_ENDS), (0.25, [8, 12, 16]), (0.5, [12, 16]), (0.6, [12, 16]), (0.99, [16])],
)
def test_s1_the_ends_of_the_epochs_in_the_last_part_count_the_last_one_too(
    start_fraction: float, ends: list[int]
) -> None:
    module, average = ScoredWeight(), EqualAverage(start_fraction)
    fit(module, average)
    assert stored(average, module) == pytest.approx(sum(ends) / len(ends))
    assert module.weight == 16


@pytest.mark.parametrize(("stop", "expected"), [(Stop(2), 12), (Stop(2, batch=1), 10), (Stop(3, batch=0), 12.5)])
def test_s2_an_early_stop_keeps_the_average(stop: Stop, expected: float) -> None:
    module, average = ScoredWeight(), EqualAverage(0.5)
    trainer = fit(module, average, stop)
    assert stored(average, module) == expected
    assert score(trainer, module) == expected


@pytest.mark.parametrize(("max_steps", "expected"), [(10, 9.0), (8, 8.0), (3, 3.0)])
@pytest.mark.parametrize("max_epochs", [-1, 10])
def test_s2_max_steps_keep_the_average(max_steps: int, expected: float, max_epochs: int) -> None:
    module, average = ScoredWeight(), EqualAverage(0.5)
    trainer = fit(module, average, max_steps=max_steps, max_epochs=max_epochs)
    assert module.weight == max_steps
    assert stored(average, module) == expected
    assert score(trainer, module) == expected


def test_s3_validation_sees_the_average_up_to_its_epoch_if_asked() -> None:
    module = ScoredWeight()
    fit(module, EqualAverage(0.5, validate_with_average=True), num_sanity_val_steps=1)
    assert module.validated == [0, 4, 8, 12, 14]  # the first is the sanity check


def test_s3_validation_at_the_end_by_max_steps_sees_the_average() -> None:
    module = ScoredWeight()
    fit(module, EqualAverage(0.5, validate_with_average=True), max_steps=10, val_check_interval=2)
    assert module.validated == [2, 4, 6, 8, 9]


def test_s3_validation_within_an_epoch_sees_the_average_of_the_epochs_before() -> None:
    module = ScoredWeight()
    fit(module, EqualAverage(0.5, validate_with_average=True), val_check_interval=2)
    assert module.validated == [2, 4, 6, 8, 10, 12, 12, 14]


def test_s3_validation_sees_the_trained_weights_otherwise() -> None:
    module = ScoredWeight()
    fit(module, EqualAverage(0.5))
    assert module.validated == EPOCH_ENDS


@pytest.mark.parametrize("weights_only", [True, False])
def test_s3_checkpoints_have_the_trained_weights_and_the_average(weights_only: bool, tmp_path: Path) -> None:
    path = tmp_path / "all.ckpt"
    average = EqualAverage(0.5, validate_with_average=True)
    fit(ScoredWeight(), average, SaveAt(path, "on_validation_epoch_end", 3, weights_only=weights_only))
    checkpoint = load(path)
    assert checkpoint["state_dict"]["weight"] == 16
    if not weights_only:
        assert checkpoint["callbacks"]["EqualAverage"]["average"]["weight"] == 14


def test_s4_a_second_fit_with_the_same_callback_averages_anew() -> None:
    module, average = ScoredWeight(), EqualAverage(0.5)
    fit(ScoredWeight(), average)
    fit(module, average, max_epochs=6)
    assert stored(average, module) == 20


class CountingNet(SmallNet):
    def __init__(self) -> None:
        super().__init__()
        self.calls = {"training": 0, "validation": 0}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.calls["training"] += 1
        return super().training_step(batch, batch_idx)

    def on_validation_epoch_start(self) -> None:
        self.calls["validation"] += 1


def test_s5_the_pass_for_batch_norm_is_no_epoch() -> None:
    module = CountingNet()
    trainer = fit(module, EqualAverage(0.5))
    assert module.calls == {"training": 16, "validation": 4}
    assert (trainer.current_epoch, trainer.global_step) == (4, 16)


def test_s6_the_pass_for_batch_norm_trains_nothing_under_manual_optimization() -> None:
    class Manual(SmallNet):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    plain, module, average = Manual(), Manual(), EqualAverage(0.5)
    fit(plain, ReseedEachEpoch(0))
    trainer = fit(module, ReseedEachEpoch(0), average)
    assert flatten(module.state_dict()) == flatten(plain.state_dict())
    assert trainer.global_step == 16
    assert average.stored_weights(module)["average"]["network.1.num_batches_tracked"] == 4


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_epochs": 4}, 14),
        ({"max_epochs": 5}, 16),
        ({"max_epochs": -1, "max_steps": 14}, 11.333333),
        ({"max_epochs": 4, "max_steps": 1000}, 14),
    ],
)
def test_s7_data_without_length_is_averaged_too(settings: dict[str, int], expected: float) -> None:
    module, average = UnsizedWeight(), EqualAverage(0.5)
    fit(module, average, **settings)
    assert stored(average, module) == pytest.approx(expected)


def test_s9_nothing_is_copied_where_nothing_is_trained() -> None:
    class Single(ScoredWeight):
        def __deepcopy__(self, memo: dict[int, Any]) -> "Single":
            raise AssertionError("copied")

    average, module = EqualAverage(0.5), Single()
    assert score(make_trainer(average), module) == 0
    assert average.stored_weights(module) == {}
    fit(module, average)
    assert stored(average, module) == 14


def test_the_trajectory_is_the_same_with_and_without() -> None:
    plain, observed, validated = Trajectory(), Trajectory(), Trajectory()
    fit(SmallNet(), ReseedEachEpoch(0), plain)
    fit(SmallNet(), ReseedEachEpoch(0), EqualAverage(0.5), observed)
    fit(SmallNet(), ReseedEachEpoch(0), EqualAverage(0.5, validate_with_average=True), validated)
    assert len(plain.states) == 16
    assert observed.states == validated.states == plain.states


def test_the_average_and_its_statistics_are_those_of_torch() -> None:
    class Average(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 0:
                self.model = AveragedModel(pl_module.network)
            self.model.update_parameters(pl_module.network)

    module, average, theirs = SmallNet(), EqualAverage(0), Average()
    fit(module, average, theirs)
    theirs.model.module[3].p = 0.0
    update_bn(DataLoader(module.points[: 4 * BATCH], batch_size=BATCH), theirs.model)
    state = average.stored_weights(module)["average"]
    ours = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    assert ours.keys() == theirs.model.module.state_dict().keys()
    assert flatten(ours) == pytest.approx(flatten(theirs.model.module.state_dict()), rel=1e-5, abs=1e-6)


def test_statistics_are_averaged_if_they_are_not_computed_anew() -> None:
    class Means(L.Callback):
        def __init__(self) -> None:
            self.found: list[Tensor] = []

        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.found.append(pl_module.network[1].running_mean.clone())

    module, average, means = SmallNet(), EqualAverage(0.5, batch_norm=False), Means()
    fit(module, average, means)
    found = average.stored_weights(module)["average"]["network.1.running_mean"]
    assert torch.allclose(found, torch.stack(means.found[2:]).mean(0))


def test_test_on_the_trainer_that_ran_fit_and_on_a_fresh_one_use_the_average(tmp_path: Path) -> None:
    module, average = SmallNet(), EqualAverage(0.5)
    keeper = ModelCheckpoint(tmp_path, save_last=True)
    trainer = fit(module, average, keeper)
    (first,) = trainer.test(module, verbose=False)
    (again,) = trainer.test(module, ckpt_path=keeper.last_model_path, verbose=False, weights_only=True)
    fresh_trainer = make_trainer(EqualAverage(0.5), ModelCheckpoint(tmp_path))
    (fresh,) = fresh_trainer.test(SmallNet(), ckpt_path=keeper.last_model_path, verbose=False, weights_only=True)
    (plain,) = make_trainer().test(module, verbose=False)
    module.load_state_dict(average.stored_weights(module)["average"])
    (loaded,) = make_trainer().test(module, verbose=False)
    assert first == again == fresh == loaded != plain


def test_a_checkpoint_from_within_the_run_is_tested_with_averaged_statistics_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "early.ckpt"
    fit(SmallNet(), EqualAverage(0.5), SaveAt(path, "on_train_epoch_end", epoch=2))
    with pytest.warns(match="that of an unfinished run, so the statistics of its batch normalization are averages"):
        make_trainer(EqualAverage(0.5)).test(SmallNet(), ckpt_path=path, verbose=False, weights_only=True)


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("validate", [True, False])
def test_a_resumed_run_equals_the_uninterrupted_one(epoch: int, validate: bool, tmp_path: Path) -> None:
    averages = [EqualAverage(0.5, validate_with_average=validate) for _ in range(3)]
    whole, resumed = SmallNet(), SmallNet()
    seed, checkpoint = ReseedEachEpoch(0), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, seed, averages[0])
    fit_until_crash(SmallNet(), seed, averages[1], checkpoint, epoch=epoch)
    fit(resumed, seed, averages[2], ckpt_path=checkpoint.path)
    assert flatten(resumed.state_dict()) == flatten(whole.state_dict())
    ours, theirs = averages[2].stored_weights(resumed)["average"], averages[0].stored_weights(whole)["average"]
    assert flatten(ours) == flatten(theirs)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("listed_first", [True, False])
@pytest.mark.parametrize(
    ("hook", "batch"),
    [("on_train_batch_end", 0), ("on_train_batch_end", 3), ("on_validation_end", None), ("on_train_epoch_end", None)],
)
def test_a_run_resumed_from_anywhere_counts_every_epoch_once(
    hook: str, batch: int | None, listed_first: bool, tmp_path: Path
) -> None:
    path, settings = tmp_path / "any.ckpt", {"accumulate_grad_batches": 2}
    saver, whole = SaveAt(path, hook, 2, batch), EqualAverage(0.5, validate_with_average=True)
    fit(ScoredWeight(), *([saver, whole] if listed_first else [whole, saver]), **settings)
    module, average = ScoredWeight(), EqualAverage(0.5, validate_with_average=True)
    fit(module, average, ckpt_path=path, **settings)
    assert module.weight == 8
    assert stored(average, module) == 7


@pytest.mark.filterwarnings("ignore:.*called without a model", "ignore:.*there is no last checkpoint available")
def test_an_exception_in_validation_does_not_leave_the_average_in_the_module(tmp_path: Path) -> None:
    module, average = ScoredWeight(), EqualAverage(0.25, validate_with_average=True)
    with pytest.raises(CrashError):
        fit(module, OnExceptionCheckpoint(tmp_path), CrashInValidation(epoch=2), average)
    assert module.validated == [4, 8, 10]
    assert module.weight == load(tmp_path / "on_exception.ckpt")["state_dict"]["weight"] == 12
    resumed, again = ScoredWeight(), EqualAverage(0.25, validate_with_average=True)
    fit(resumed, again, ckpt_path=tmp_path / "on_exception.ckpt")
    assert stored(again, resumed) == 12


def test_a_run_that_ends_before_its_last_part_says_that_nothing_was_averaged() -> None:
    module, average = ScoredWeight(), EqualAverage(0.75)
    with pytest.warns(match="the run ended at step 4, before anything was averaged"):
        trainer = fit(module, average, Stop(0))
    assert average.stored_weights(module) == {}
    assert score(trainer, module) == 4


def test_a_run_resumed_without_an_average_begins_with_the_loaded_weights_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "plain.ckpt"
    fit(ScoredWeight(), SaveAt(path, "on_train_epoch_end", epoch=2))
    module, average = ScoredWeight(), EqualAverage(0.5)
    with pytest.warns(match="plain.ckpt holds no average"):
        fit(module, average, ckpt_path=path)
    assert stored(average, module) == 16


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5])
def test_a_start_that_is_no_part_of_the_run_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"from 0 to below 1, a part of the run, not {fraction}"):
        EqualAverage(fraction)


def test_a_run_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="the run has no end"):
        fit(ScoredWeight(), EqualAverage(), max_epochs=-1)


def fit_two_processes() -> tuple[float, float]:
    module, average = ScoredWeight(), EqualAverage(0.25, validate_with_average=True)
    fit_distributed(module, average)
    return stored(average, module), module.validated[-1]


def fit_net_two_processes() -> list[float]:
    module, average = SmallNet(), EqualAverage(0.5)
    fit_distributed(module, average)
    return flatten(average.stored_weights(module)["average"])


def test_two_processes_average_as_one_does() -> None:
    assert run_distributed(fit_two_processes) == [(12, 12)] * 2


def test_two_processes_agree_on_the_average_and_its_statistics() -> None:
    first, second = run_distributed(fit_net_two_processes)
    assert first == second


def test_parameters_of_a_frozen_part_are_the_modules_own() -> None:
    module, average = SmallNet(), EqualAverage(0.5)
    nn.init.ones_(module.teacher[0].weight)
    fit(module, average)
    assert average.stored_weights(module)["average"]["teacher.0.weight"].min() == 1
    assert not any(name.startswith("teacher") for name in average.evaluation_weights())
