from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from callbacks import EMA, EpochCheckpoint, ReseedEachEpoch
from tests.helpers.crashes import CrashInValidation, SaveAt, load
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import CrashError, OneWeight, fit, fit_until_crash, make_trainer
from tests.helpers.scored_weight import ScoredWeight, score
from tests.helpers.small_net import SmallNet, Trajectory, flatten

STEPS = 16


def closed_form(steps: int, decay: float = 0.999, warmup: bool = True, every: int = 1) -> float:
    """Return the average of the step count, in double precision."""
    average = 0.0
    for update in range(steps // every):
        weight = min(decay, (1 + update) / (10 + update)) if warmup else decay
        average = weight * average + (1 - weight) * (update + 1) * every
    return average


def stored(ema: EMA, module: L.LightningModule) -> float:
    return float(ema.stored_weights(module)["ema"]["weight"])


def state_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    (state,) = [state for key, state in checkpoint["callbacks"].items() if key.startswith("EMA")]
    return state


@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize(("decay", "every"), [(0.999, 1), (0.9, 1), (0.3, 1), (0.9, 3), (0.9, 16)])
def test_the_average_has_its_closed_form(decay: float, warmup: bool, every: int) -> None:
    ema, module = EMA(decay, warmup, every), ScoredWeight()
    fit(module, ema)
    assert stored(ema, module) == pytest.approx(closed_form(STEPS, decay, warmup, every), rel=1e-6)


@pytest.mark.parametrize(("batches", "accumulated", "per_epoch"), [(4, 2, 2), (5, 2, 3), (3, 8, 1)])
def test_optimizer_steps_are_counted_not_batches(batches: int, accumulated: int, per_epoch: int) -> None:
    ema, module = EMA(0.9), ScoredWeight(batches=batches)
    fit(module, ema, accumulate_grad_batches=accumulated)
    assert module.weight == 4 * per_epoch
    assert stored(ema, module) == pytest.approx(closed_form(4 * per_epoch, 0.9), rel=1e-6)


def test_a_fit_leaves_the_trained_weights_in_the_module() -> None:
    module = ScoredWeight()
    fit(module, EMA(0.9))
    assert module.weight == STEPS


@pytest.mark.parametrize("validate_with_average", [True, False])
def test_the_trajectory_is_the_same_with_and_without(validate_with_average: bool) -> None:
    plain, observed = Trajectory(), Trajectory()
    fit(SmallNet(), ReseedEachEpoch(0), plain)
    fit(SmallNet(), ReseedEachEpoch(0), EMA(0.9, validate_with_average=validate_with_average), observed)
    assert len(plain.states) == STEPS
    assert observed.states == plain.states


def test_validation_sees_the_average() -> None:
    module = ScoredWeight()
    fit(module, EMA(0.9))
    assert module.validated == pytest.approx([closed_form(steps, 0.9) for steps in (4, 8, 12, 16)], rel=1e-6)


def test_validation_sees_the_trained_weights_if_asked() -> None:
    module = ScoredWeight()
    fit(module, EMA(0.9, validate_with_average=False))
    assert module.validated == [4, 8, 12, 16]


def test_validation_within_an_epoch_sees_the_average_so_far() -> None:
    module = ScoredWeight()
    fit(module, EMA(0.9), val_check_interval=2, max_epochs=2)
    assert module.validated == pytest.approx([closed_form(steps, 0.9) for steps in (2, 4, 6, 8)], rel=1e-6)


def test_validation_alone_sees_the_average() -> None:
    module = ScoredWeight()
    trainer = fit(module, EMA(0.9, validate_with_average=False))
    (metrics,) = trainer.validate(module, verbose=False)
    assert metrics["val/weight"] == pytest.approx(closed_form(STEPS, 0.9), rel=1e-6)
    assert module.weight == STEPS


def test_w1_test_and_predict_on_the_trainer_that_ran_fit_use_the_average(tmp_path: Path) -> None:
    module, path = ScoredWeight(), tmp_path / "all.ckpt"
    ema = EMA(0.9)
    trainer = fit(module, ema)
    trainer.save_checkpoint(path)
    average = stored(ema, module)
    assert score(trainer, module) == average
    assert score(trainer, module, ckpt_path=path) == average
    assert trainer.predict(module) == [average]
    assert trainer.predict(module, ckpt_path=path, weights_only=True) == [average]
    assert module.weight == STEPS
    fresh = ScoredWeight()
    assert score(make_trainer(EMA(0.9)), fresh, ckpt_path=path) == average
    assert fresh.weight == STEPS


def test_w1_test_uses_the_average_of_the_checkpoint_that_it_loads(tmp_path: Path) -> None:
    module, path = ScoredWeight(), tmp_path / "early.ckpt"
    trainer = fit(module, SaveAt(path, "on_train_epoch_end", epoch=1), EMA(0.9))
    expected = pytest.approx(closed_form(8, 0.9), rel=1e-6)
    assert score(trainer, module, ckpt_path=path) == expected
    assert score(make_trainer(EMA(0.9)), ScoredWeight(), ckpt_path=path) == expected


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize(
    "hook", ["on_validation_batch_end", "on_validation_epoch_end", "on_validation_end", "on_train_epoch_end"]
)
@pytest.mark.parametrize("listed_first", [True, False])
def test_w2_every_checkpoint_has_the_trained_weights_as_state_dict(
    hook: str, weights_only: bool, listed_first: bool, tmp_path: Path
) -> None:
    path = tmp_path / "all.ckpt"
    batch = 0 if hook == "on_validation_batch_end" else None
    saver, ema = SaveAt(path, hook, 1, batch, weights_only=weights_only), EMA(0.9)
    fit(ScoredWeight(), *([saver, ema] if listed_first else [ema, saver]))
    checkpoint = load(path)
    assert checkpoint["state_dict"]["weight"] == 8
    if not weights_only:
        assert state_of(checkpoint)["average"]["weight"] == pytest.approx(closed_form(8, 0.9), rel=1e-6)


def test_w2_a_checkpoint_without_the_average_is_not_tested_as_if_it_had_it(tmp_path: Path) -> None:
    keeper = ModelCheckpoint(tmp_path, monitor="val/weight", mode="max", save_weights_only=True)
    module = ScoredWeight()
    trainer = fit(module, EMA(0.9), keeper)
    assert load(Path(keeper.best_model_path))["state_dict"]["weight"] == STEPS
    for tester in (trainer, make_trainer(EMA(0.9))):
        with pytest.raises(ValueError, match="does not hold its weights; it was saved with save_weights_only"):
            tester.test(module, ckpt_path=keeper.best_model_path, weights_only=True)
    assert score(make_trainer(), module, ckpt_path=keeper.best_model_path) == STEPS


def test_w3_validation_before_the_first_update_sees_the_trained_weights() -> None:
    module = ScoredWeight()
    fit(module, EMA(0.5, warmup=False, every_n_steps=10), num_sanity_val_steps=1)
    assert module.validated == [0, 4, 8, 5, 5]  # the first is the sanity check


def test_w4_a_run_that_ends_before_the_first_update_keeps_its_weights() -> None:
    class Stop(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            trainer.should_stop = True

    module, ema = ScoredWeight(), EMA(every_n_steps=10)
    trainer = fit(module, ema, Stop())
    assert module.weight == 4
    assert ema.stored_weights(module) == {}
    assert score(trainer, module) == 4


@pytest.mark.parametrize(("every", "updates"), [(1, 16), (3, 5), (10, 1)])
def test_w5_updates_are_made_every_n_steps_and_not_between(every: int, updates: int, tmp_path: Path) -> None:
    trainer = fit(ScoredWeight(), EMA(every_n_steps=every))
    trainer.save_checkpoint(tmp_path / "all.ckpt")
    assert state_of(load(tmp_path / "all.ckpt"))["updates"] == updates


on_exception = pytest.mark.filterwarnings(  # Lightning looks for the checkpoint of an earlier exception
    "ignore:.*called without a model", "ignore:.*there is no last checkpoint available"
)


@on_exception
def test_w6_an_exception_in_validation_does_not_leave_the_average_in_the_module(tmp_path: Path) -> None:
    module, ema = ScoredWeight(), EMA(0.9)
    with pytest.raises(CrashError):
        fit(module, OnExceptionCheckpoint(tmp_path), CrashInValidation(epoch=1), ema)
    assert module.weight == 8
    checkpoint = load(tmp_path / "on_exception.ckpt")
    assert checkpoint["state_dict"]["weight"] == 8
    assert state_of(checkpoint)["average"]["weight"] == pytest.approx(closed_form(8, 0.9), rel=1e-6)


@on_exception
def test_w6_a_run_resumed_from_an_exception_in_validation_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, resumed, ema, again = ScoredWeight(), ScoredWeight(), EMA(0.9), EMA(0.9)
    fit(whole, ema)
    with pytest.raises(CrashError):
        fit(ScoredWeight(), OnExceptionCheckpoint(tmp_path), CrashInValidation(epoch=1), EMA(0.9))
    fit(resumed, again, ckpt_path=tmp_path / "on_exception.ckpt")
    assert resumed.weight == whole.weight
    assert stored(again, resumed) == stored(ema, whole)


def test_w7_a_short_run_is_not_held_back_by_its_initial_weights() -> None:
    module, ema = ScoredWeight(), EMA(0.999)
    fit(module, ema, max_epochs=10)
    assert module.weight == 40
    assert stored(ema, module) == pytest.approx(closed_form(40), rel=1e-6)
    assert 35 < stored(ema, module) < 40


def test_w8_frozen_parts_are_neither_copied_nor_averaged(tmp_path: Path) -> None:
    module, ema = SmallNet(), EMA(0.9)
    trainer = fit(module, ema)
    trainer.save_checkpoint(tmp_path / "all.ckpt")
    layers = {"network.0": ["weight", "bias"], "network.1": ["weight", "bias", "running_mean", "running_var"]}
    names = {f"{layer}.{name}" for layer, parts in layers.items() for name in parts}
    assert state_of(load(tmp_path / "all.ckpt"))["average"].keys() == names | {"network.4.weight", "network.4.bias"}
    state = ema.stored_weights(module)["ema"]
    assert state.keys() == module.state_dict().keys()
    assert all(torch.equal(state[name], module.state_dict()[name]) for name in state if name.startswith("teacher"))
    assert not torch.equal(state["network.0.weight"], module.network[0].weight)


def test_w9_all_tensors_are_updated_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    lerp = torch._foreach_lerp_
    monkeypatch.setattr(torch, "_foreach_lerp_", lambda *given: (calls.append(len(given[0])), lerp(*given)))
    fit(SmallNet(), EMA())
    assert calls == [8] * STEPS


def test_w10_counters_and_masks_are_the_modules_own() -> None:
    module, ema = SmallNet(), EMA(0.9)
    fit(module, ema)
    state = ema.stored_weights(module)["ema"]
    assert state["network.1.num_batches_tracked"] == STEPS
    assert state["mask"].tolist() == [0, -torch.inf]


@pytest.mark.parametrize("average", [True, False])
def test_batch_statistics_are_averaged_or_the_modules_own(average: bool) -> None:
    means = []

    class Means(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            means.append(pl_module.network[1].running_mean.double())

    module, ema = SmallNet(), EMA(0.9, average_batch_norm=average)
    fit(module, ema, Means())
    expected = torch.zeros(8).double()
    for update, mean in enumerate(means):
        decay = min(0.9, (1 + update) / (10 + update)) if average else 0
        expected = decay * expected + (1 - decay) * mean
    assert torch.allclose(ema.stored_weights(module)["ema"]["network.1.running_mean"].double(), expected)


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("every", [1, 3])
def test_w11_a_resumed_run_equals_the_uninterrupted_one(epoch: int, every: int, tmp_path: Path) -> None:
    whole, resumed, ema, again = SmallNet(), SmallNet(), EMA(0.9, True, every), EMA(0.9, True, every)
    seed, checkpoint = ReseedEachEpoch(0), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, seed, ema)
    fit_until_crash(SmallNet(), seed, EMA(0.9, True, every), checkpoint, epoch=epoch)
    fit(resumed, seed, again, ckpt_path=checkpoint.path)
    assert flatten(resumed.state_dict()) == flatten(whole.state_dict())
    assert flatten(again.stored_weights(resumed)["ema"]) == flatten(ema.stored_weights(whole)["ema"])


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("listed_first", [True, False])
@pytest.mark.parametrize(("batch", "accumulated"), [(0, 1), (1, 1), (3, 1), (0, 2), (1, 2), (2, 2), (3, 2)])
def test_a_run_resumed_from_within_an_epoch_counts_every_step_once(
    batch: int, accumulated: int, listed_first: bool, tmp_path: Path
) -> None:
    path = tmp_path / "middle.ckpt"
    whole, resumed, ema, again = ScoredWeight(), ScoredWeight(), EMA(0.9), EMA(0.9)
    saver = SaveAt(path, "on_train_batch_end", epoch=1, batch=batch)
    fit(whole, *([saver, ema] if listed_first else [ema, saver]), accumulate_grad_batches=accumulated)
    fit(resumed, again, ckpt_path=path, accumulate_grad_batches=accumulated)
    assert resumed.weight == whole.weight == STEPS / accumulated
    assert stored(again, resumed) == stored(ema, whole)


def test_w12_a_hook_that_migrates_the_state_dict_meets_the_weights_that_are_trained(tmp_path: Path) -> None:
    class Renamed(ScoredWeight):
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["state_dict"]["weight"] = checkpoint["state_dict"].pop("old")

    path = tmp_path / "old.ckpt"
    module = ScoredWeight()
    fit(module, EMA(0.9), SaveAt(path, "on_train_epoch_end", epoch=1))
    checkpoint = load(path)
    checkpoint["state_dict"]["old"] = checkpoint["state_dict"].pop("weight")
    torch.save(checkpoint, path)
    resumed, ema = Renamed(), EMA(0.9)
    fit(resumed, ema, ckpt_path=path)
    assert resumed.weight == STEPS
    assert stored(ema, resumed) == pytest.approx(closed_form(STEPS, 0.9), rel=1e-6)


def test_s4_a_second_fit_with_the_same_callback_averages_anew() -> None:
    ema, module = EMA(0.9), ScoredWeight()
    fit(ScoredWeight(), ema)
    fit_until_crash(ScoredWeight(), ema, epoch=1)
    fit(module, ema)
    assert stored(ema, module) == pytest.approx(closed_form(STEPS, 0.9), rel=1e-6)


def test_a_run_resumed_without_an_average_begins_with_the_loaded_weights_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "plain.ckpt"
    fit(ScoredWeight(), SaveAt(path, "on_train_epoch_end", epoch=1))
    module, ema = ScoredWeight(), EMA(0.5, warmup=False)
    with pytest.warns(match="plain.ckpt holds no average"):
        fit(module, ema, ckpt_path=path, max_steps=9)
    assert stored(ema, module) == 8.5


def test_the_average_of_another_module_is_not_lent() -> None:
    trainer = fit(ScoredWeight(), EMA())
    with pytest.raises(ValueError, match="its weights are those of another module than the ScoredWeight to evaluate"):
        score(trainer, ScoredWeight())


def test_parameters_that_are_released_later_join_with_their_values() -> None:
    class TwoWeights(ScoredWeight):
        def __init__(self) -> None:
            super().__init__()
            self.late = nn.Parameter(torch.full((), 100.0), requires_grad=False)

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return -self.weight - self.late

        def parameter_groups(self) -> list[dict[str, Any]]:
            return [*super().parameter_groups(), {"params": [self.late]}]

    class Release(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            pl_module.late.requires_grad_(trainer.current_epoch >= 2)

    module, ema = TwoWeights(), EMA(0.5, warmup=False)
    fit(module, ema, Release())
    average = 100.0
    for step in range(8):
        average = 0.5 * average + 0.5 * (101 + step)
    assert module.late == 108
    assert float(ema.stored_weights(module)["ema"]["late"]) == pytest.approx(average)


def test_half_precision_is_averaged_in_single() -> None:
    class Half(SmallNet):
        def __init__(self) -> None:
            super().__init__()
            self.to(torch.bfloat16)
            self.points = self.points.bfloat16()

    module, ema = Half(), EMA(0.999, warmup=False)
    fit(module, ema)
    assert {tensor.dtype for tensor in ema._average.tensors.values()} == {torch.float32}
    assert ema.stored_weights(module)["ema"]["network.0.weight"].dtype == torch.bfloat16


def test_steps_that_the_gradient_scaler_skips_leave_the_weights_and_the_average_sound() -> None:
    class Overflowing(OneWeight):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return -self.weight * (torch.inf if batch_idx == 2 else 1.0)

    module, ema = Overflowing(), EMA(0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    fit(module, ema, plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])
    assert module.weight == 12
    assert 8 < stored(ema, module) < 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 0.0}, "decay must be between 0 and 1, not 0.0"),
        ({"decay": 1.0}, "decay must be between 0 and 1, not 1.0"),
        ({"decay": 1.5, "every_n_steps": 0}, "not 1.5; every_n_steps must be at least 1, not 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EMA(**arguments)


def test_more_steps_between_updates_than_the_run_has_are_refused() -> None:
    with pytest.raises(ValueError, match="every_n_steps=17, but the whole run has only 16 optimizer steps"):
        fit(ScoredWeight(), EMA(every_n_steps=17))


def fit_two_processes() -> tuple[float, float]:
    module, ema = ScoredWeight(), EMA(0.9)
    fit_distributed(module, ema)
    return stored(ema, module), float(module.weight)


def fit_net_two_processes() -> list[float]:
    module, ema = SmallNet(), EMA(0.9)
    fit_distributed(module, ema)
    return flatten(ema.stored_weights(module)["ema"])


def test_two_processes_average_as_one_does() -> None:
    module, ema = ScoredWeight(), EMA(0.9)
    fit(module, ema)
    assert run_distributed(fit_two_processes) == [(stored(ema, module), STEPS)] * 2


def test_two_processes_agree_on_the_average_of_different_data() -> None:
    first, second = run_distributed(fit_net_two_processes)
    assert first == second
    assert len(first) > 60
