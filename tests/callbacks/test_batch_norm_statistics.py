from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from callbacks import BatchNormStatistics, EpochCheckpoint, FreezeBackbone, ReseedEachEpoch, recompute_batch_norm
from callbacks.batch_norm_statistics import training_statistics
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import OneWeight, fit, fit_until_crash, make_trainer
from tests.helpers.small_net import BATCH, SmallNet, Trajectory, flatten

BATCHES_OF_POINTS = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(1)).unbind()


def network(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.Linear(8, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("wrap", [lambda points: points, lambda points: [points, 0], lambda points: (points,)])
def test_statistics_are_those_of_update_bn(wrap: Any) -> None:
    ours, theirs = network(), network()
    assert recompute_batch_norm(ours, [wrap(points) for points in BATCHES_OF_POINTS]) == 5
    update_bn(BATCHES_OF_POINTS, theirs)
    assert flatten(ours.state_dict()) == flatten(theirs.state_dict())


def test_statistics_are_the_means_over_the_batches() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3))
    recompute_batch_norm(module, BATCHES_OF_POINTS)
    assert torch.allclose(module[0].running_mean, torch.stack([points.mean(0) for points in BATCHES_OF_POINTS]).mean(0))
    assert torch.allclose(module[0].running_var, torch.stack([points.var(0) for points in BATCHES_OF_POINTS]).mean(0))


def test_dropout_is_off_and_every_mode_and_momentum_stays() -> None:
    plain, module = network(), network(dropout=0.9)
    module.train()
    module[0].eval()
    module[1].momentum = 0.3
    recompute_batch_norm(plain, BATCHES_OF_POINTS)
    recompute_batch_norm(module, BATCHES_OF_POINTS)
    assert flatten(module.state_dict()) == flatten(plain.state_dict())
    assert [part.training for part in module] == [False, True, True, True, True]
    assert (module[1].momentum, module[4].momentum) == (0.3, 0.1)


def test_no_gradients_are_made() -> None:
    module = network()
    outputs: list[Tensor] = []
    recompute_batch_norm(module, BATCHES_OF_POINTS, forward=lambda batch: outputs.append(module(batch)))
    assert not any(output.requires_grad for output in outputs)


def test_a_module_without_batch_norm_is_not_run() -> None:
    assert recompute_batch_norm(nn.Linear(3, 1), BATCHES_OF_POINTS) == 0


def broken() -> Iterator[Tensor]:
    yield BATCHES_OF_POINTS[0]
    raise RuntimeError("no more data")


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "there are no batches"),
        ([{"points": BATCHES_OF_POINTS[0]}], "a batch is a dict, neither a tensor nor a sequence that begins with one"),
        (broken(), "no more data"),
    ],
)
def test_an_error_leaves_the_module_as_it_was(batches: Any, message: str) -> None:
    module = network().train()
    module(BATCHES_OF_POINTS[0])
    before = flatten(module.state_dict())
    with pytest.raises((ValueError, RuntimeError), match=message):
        recompute_batch_norm(module, batches)
    assert flatten(module.state_dict()) == before
    assert (module.training, module[1].training, module[1].momentum) == (True, True, 0.1)


def test_the_trajectory_is_the_same_with_and_without() -> None:
    plain, observed = Trajectory(), Trajectory()
    fit(SmallNet(), ReseedEachEpoch(0), plain)
    fit(SmallNet(), ReseedEachEpoch(0), BatchNormStatistics(), observed)
    assert observed.states == plain.states


def test_the_callback_stores_the_last_weights_with_the_statistics_of_update_bn() -> None:
    module, callback = SmallNet(), BatchNormStatistics()
    fit(module, callback)
    stored = callback.stored_weights(module)["batch_norm"]
    module.network[3].p = 0.0
    loader = DataLoader(module.points[: 4 * BATCH], batch_size=BATCH)
    before = flatten(module.state_dict())
    update_bn(loader, module.network)
    assert flatten(stored) == flatten(module.state_dict())
    assert flatten(stored) != before


@pytest.mark.parametrize("batches", [1, 3])
def test_a_number_of_batches_is_enough_if_asked(batches: int) -> None:
    module, callback = SmallNet(), BatchNormStatistics(batches)
    fit(module, callback)
    assert callback.stored_weights(module)["batch_norm"]["network.1.num_batches_tracked"] == batches


class ComputeEachEpoch(L.Callback):
    """Compute the statistics at the end of each epoch, and in each validation."""

    def __init__(self) -> None:
        self.found: list[dict[str, Tensor]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.found.append(training_statistics(trainer, pl_module))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.found.append(training_statistics(trainer, pl_module))
            assert trainer.validating


class ShuffledNet(SmallNet):
    """Shuffles with a generator of its own and adds noise in training, both of which the next epoch would show."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(5)
        self.steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return super().training_step(batch, batch_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] + torch.randn_like(batch[0]), batch[1]] if self.trainer.training else batch

    def train_dataloader(self) -> DataLoader:
        data = TensorDataset(self.points, (self.points[:, 0] > 0).long())
        return DataLoader(data, batch_size=BATCH, shuffle=True, generator=self.generator)


def test_computing_within_the_run_changes_nothing_of_it() -> None:
    plain, observed, compute = Trajectory(), Trajectory(), ComputeEachEpoch()
    first, second = ShuffledNet(), ShuffledNet()
    torch.manual_seed(3)
    fit(first, plain)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    fit(second, compute, observed)
    assert len(compute.found) == 8
    assert observed.states == plain.states
    assert torch.equal(torch.get_rng_state(), state)
    assert second.steps == first.steps == 32


def test_batches_are_transformed_as_in_training() -> None:
    plain, noisy = SmallNet(), ShuffledNet()
    callbacks = [BatchNormStatistics(), BatchNormStatistics()]
    for module, callback in zip((plain, noisy), callbacks, strict=True):
        module.network[0].weight.data.fill_(1.0)
        module.network[0].weight.requires_grad_(False)
        fit(module, callback, max_epochs=1)
    variances = [
        callback.stored_weights(module)["batch_norm"]["network.1.running_var"].mean()
        for module, callback in zip((plain, noisy), callbacks, strict=True)
    ]
    assert variances[1] > 1.3 * variances[0]


class Unsized(IterableDataset):
    def __init__(self, points: Tensor, endless: bool) -> None:
        self.points = points
        self.endless = endless

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for point in self.points:
                yield point, (point[0] > 0).long()
            if not self.endless:
                return


class UnsizedNet(SmallNet):
    endless = False

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Unsized(self.points[: 4 * BATCH], self.endless), batch_size=BATCH)


class EndlessNet(UnsizedNet):
    endless = True


def test_s7_data_without_length_is_passed_over_once() -> None:
    sized, unsized, callback, again = SmallNet(), UnsizedNet(), BatchNormStatistics(), BatchNormStatistics()
    fit(sized, ReseedEachEpoch(0), callback)
    fit(unsized, ReseedEachEpoch(0), again)
    assert flatten(again.stored_weights(unsized)["batch_norm"]) == flatten(callback.stored_weights(sized)["batch_norm"])


def test_s7_of_data_without_end_as_much_is_used_as_was_trained_on() -> None:
    module, callback = EndlessNet(), BatchNormStatistics()
    fit(module, callback, max_epochs=-1, max_steps=6)
    assert callback.stored_weights(module)["batch_norm"]["network.1.num_batches_tracked"] == 6


def test_frozen_layers_keep_their_statistics() -> None:
    module, callback = SmallNet(), BatchNormStatistics()
    fit(module, callback)
    stored = callback.stored_weights(module)["batch_norm"]
    assert stored["teacher.1.running_mean"].tolist() == [0.0] * 8
    assert stored["teacher.1.num_batches_tracked"] == 0


def test_layers_that_are_released_during_the_run_count() -> None:
    module, callback = SmallNet(), BatchNormStatistics()
    fit(module, FreezeBackbone(["network.1"], until_epoch=2), callback)
    stored = callback.stored_weights(module)["batch_norm"]
    assert stored["network.1.num_batches_tracked"] == 4
    assert flatten(stored) != flatten(module.state_dict())


def test_a_run_that_ends_with_every_layer_frozen_keeps_the_last_weights_and_says_so() -> None:
    module, callback = SmallNet(), BatchNormStatistics()
    with pytest.warns(UserWarning, match="every batch normalization was frozen at the end of the run"):
        fit(module, FreezeBackbone(["network.1"]), callback)
    assert flatten(callback.stored_weights(module)["batch_norm"]) == flatten(module.state_dict())


def test_test_on_the_trainer_that_ran_fit_and_on_a_fresh_one_use_the_computed_statistics(tmp_path: Path) -> None:
    module, callback, path = SmallNet(), BatchNormStatistics(), tmp_path / "all.ckpt"
    trainer = fit(module, callback)
    trainer.save_checkpoint(path)
    (first,) = trainer.test(module, verbose=False)
    fresh_trainer = make_trainer(BatchNormStatistics())
    (fresh,) = fresh_trainer.test(SmallNet(), ckpt_path=path, verbose=False, weights_only=True)
    (plain,) = make_trainer().test(module, verbose=False)
    module.load_state_dict(callback.stored_weights(module)["batch_norm"])
    (stored,) = make_trainer().test(module, verbose=False)
    assert first == fresh == stored != plain


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(epoch: int, tmp_path: Path) -> None:
    whole, resumed, callback, again = SmallNet(), SmallNet(), BatchNormStatistics(), BatchNormStatistics()
    seed, checkpoint = ReseedEachEpoch(0), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, seed, callback)
    fit_until_crash(SmallNet(), seed, BatchNormStatistics(), checkpoint, epoch=epoch)
    fit(resumed, seed, again, ckpt_path=checkpoint.path)
    assert flatten(again.stored_weights(resumed)["batch_norm"]) == flatten(callback.stored_weights(whole)["batch_norm"])


def test_a_module_without_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="OneWeight has no batch normalization with running statistics"):
        fit(OneWeight(), BatchNormStatistics())


def test_less_than_one_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batches must be at least 1, not 0"):
        BatchNormStatistics(0)


class FixedNet(SmallNet):
    """Its weights do not change, so that one process and two end with the same."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches = batches

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.network.parameters(), lr=0.0)

    def train_dataloader(self) -> DataLoader:
        points = self.points[: BATCH * self.batches]
        return DataLoader(TensorDataset(points, (points[:, 0] > 0).long()), batch_size=BATCH)


def means_of(callback: BatchNormStatistics, module: SmallNet) -> list[float]:
    state = callback.stored_weights(module)["batch_norm"]
    return flatten({name: value for name, value in state.items() if name.endswith("running_mean")})


def fit_two_processes() -> list[float]:
    module, callback = FixedNet(batches=8), BatchNormStatistics()
    fit_distributed(module, callback, max_epochs=1)
    return means_of(callback, module)


def test_two_processes_agree_and_see_all_of_the_data() -> None:
    module, callback = FixedNet(batches=8), BatchNormStatistics()
    fit(module, callback, max_epochs=1)
    first, second = run_distributed(fit_two_processes)
    assert first == second
    assert first == pytest.approx(means_of(callback, module), abs=1e-6)
