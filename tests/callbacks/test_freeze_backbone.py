"""Which parameters move and when, against a naive loop that trains what it should and nothing else."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, Subset, TensorDataset

from callbacks import EMA, EpochCheckpoint, FreezeBackbone, ReseedEachEpoch
from tests.helpers.crashes import CrashInValidation
from tests.helpers.distributed import PROCESSES, fit_distributed, run_distributed
from tests.helpers.one_weight import CrashError, fit, fit_until_crash
from tests.helpers.small_net import flatten

STEPS, EPOCH = 16, 4
BACKBONE = {"network.0.weight", "network.0.bias", "network.1.weight", "network.1.bias"}
HEAD = {"network.3.weight", "network.3.bias"}
ENDS: dict[str, tuple[dict[str, Any], int]] = {
    "until an epoch": ({"until_epoch": 2}, 8),
    "until within an epoch": ({"until_fraction": 0.4}, 6),
    "for the whole run": ({}, STEPS),
}
"""How long the backbone is frozen, and how many steps that is."""
each_end = pytest.mark.parametrize(("end", "frozen_steps"), ENDS.values(), ids=ENDS.keys())


class Tuned(L.LightningModule):
    """A backbone with batch norm, a head, a teacher that the user froze; momentum, decay and a schedule by step."""

    def __init__(self, norm: bool = True, batch_size: int = 4) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            middle = nn.BatchNorm1d(8) if norm else nn.LayerNorm(8)
            self.network = nn.Sequential(nn.Linear(3, 8), middle, nn.Tanh(), nn.Linear(8, 2))
            self.teacher = nn.Linear(3, 8).requires_grad_(False)
            self.points = torch.randn(EPOCH * 8, 3)
        self.batch_size = batch_size
        self.trained: list[set[str]] = []  # what each step moved
        self.statistics: list[list[float]] = []
        self.before: dict[str, Tensor] = {}

    def batches(self) -> TensorDataset:
        return TensorDataset(self.points, (self.points[:, 0] > 0).long())

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch), sync_dist=True)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.before = {name: parameter.detach().clone() for name, parameter in self.named_parameters()}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        parameters = self.named_parameters()
        self.trained.append({name for name, parameter in parameters if not torch.equal(parameter, self.before[name])})
        if isinstance(self.network[1], nn.BatchNorm1d):
            self.statistics.append(self.network[1].running_mean.tolist())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(
            (parameter for parameter in self.parameters() if parameter.requires_grad), 0.3, 0.9, weight_decay=0.1
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": CosineAnnealingLR(optimizer, STEPS), "interval": "step"},
        }

    def train_dataloader(self) -> DataLoader:
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(Subset(self.batches(), range(rank, EPOCH * 8, processes)), self.batch_size)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.batches(), 32)


def make(norm: bool = True) -> Tuned:
    """Return the module with batches of 8, 4 an epoch."""
    return Tuned(norm, batch_size=8)


def freeze(**arguments: Any) -> FreezeBackbone:
    return FreezeBackbone(["network"], ["network.3"], **arguments)


def train_naively(frozen_steps: int) -> Tuned:
    """Train the head alone for some steps, then all of the network, and return the module."""
    module = make()
    backbone, head = module.network[:3], module.network[3]
    optimizer = torch.optim.SGD([{"params": head.parameters()}, {"params": []}], 0.3, 0.9, weight_decay=0.1)
    schedule = CosineAnnealingLR(optimizer, STEPS)
    batches = list(DataLoader(module.batches(), 8)) * 4
    for step, (points, targets) in enumerate(batches):
        if step == frozen_steps:
            optimizer.param_groups[1]["params"] = list(backbone.parameters())
        backbone.train(step >= frozen_steps)
        with torch.set_grad_enabled(step >= frozen_steps):
            features = backbone(points)
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), targets).backward()
        optimizer.step()
        schedule.step()
    return module


@each_end
def test_what_moves_step_by_step(end: dict[str, Any], frozen_steps: int) -> None:
    module = make()
    fit(module, freeze(**end))
    assert module.trained == [HEAD] * frozen_steps + [BACKBONE | HEAD] * (STEPS - frozen_steps)


@each_end
def test_the_run_equals_a_naive_loop(end: dict[str, Any], frozen_steps: int) -> None:
    module = make()
    fit(module, freeze(**end))
    torch.testing.assert_close(module.network.state_dict(), train_naively(frozen_steps).network.state_dict())


@each_end
def test_frozen_parts_take_no_place_in_the_optimizer_s_state(end: dict[str, Any], frozen_steps: int) -> None:
    states: list[int] = []

    class Count(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            states.append(len(trainer.optimizers[0].state))

    trainer = fit(make(), freeze(**end), Count())
    assert states == [2] * frozen_steps + [6] * (STEPS - frozen_steps)
    assert len(trainer.optimizers[0].param_groups[0]["params"]) == (6 if end else 2)


@pytest.mark.parametrize("still", [True, False])
@each_end
def test_statistics_of_frozen_parts_stay_if_asked(end: dict[str, Any], frozen_steps: int, still: bool) -> None:
    module = make()
    fit(module, freeze(**end, freeze_statistics=still), val_check_interval=2)
    moved = [now != before for now, before in zip(module.statistics, [[0.0] * 8, *module.statistics], strict=False)]
    assert moved == [not still] * frozen_steps + [True] * (STEPS - frozen_steps)


@each_end
def test_a_fit_leaves_everything_as_trainable_as_it_was(end: dict[str, Any], frozen_steps: int) -> None:
    module = make()
    fit(module, freeze(**end))
    assert {name for name, parameter in module.named_parameters() if parameter.requires_grad} == BACKBONE | HEAD
    assert module.network[1].training
    fit(module, max_epochs=1)
    assert module.trained[STEPS:] == [BACKBONE | HEAD] * EPOCH


@pytest.mark.parametrize(
    ("parts", "all_but", "trained"),
    [
        (["network.0"], [], {"network.1.weight", "network.1.bias"} | HEAD),
        (["*.bias"], [], {"network.0.weight", "network.1.weight", "network.3.weight"}),
        (["network.[01]"], ["*.bias"], {"network.0.bias", "network.1.bias"} | HEAD),
        (["*"], ["network.3.weight"], {"network.3.weight"}),
    ],
)
def test_names_may_be_parts_parameters_and_patterns(parts: list[str], all_but: list[str], trained: set[str]) -> None:
    module = make()
    fit(module, FreezeBackbone(parts, all_but), max_epochs=1)
    assert module.trained == [trained] * EPOCH


def test_several_of_them_release_one_part_after_the_other() -> None:
    module = make()
    fit(module, FreezeBackbone(["network.0"], until_epoch=2), FreezeBackbone(["network.1"], until_epoch=1))
    middle = {"network.1.weight", "network.1.bias"}
    assert module.trained == [HEAD] * 4 + [HEAD | middle] * 4 + [HEAD | BACKBONE] * 8


def test_optimizer_steps_are_counted_not_batches() -> None:
    module = make()
    fit(module, freeze(until_fraction=0.4), accumulate_grad_batches=2)
    moved = [HEAD] * 3 + [BACKBONE | HEAD] * 5  # 0.4 of 8 steps
    assert module.trained == [names for step in moved for names in (set(), step)]


@pytest.mark.parametrize("epoch", [1, 2, 3])
@each_end
def test_a_resumed_run_equals_the_uninterrupted_one(
    end: dict[str, Any], frozen_steps: int, epoch: int, tmp_path: Path
) -> None:
    whole, resumed = make(), make()
    checkpoint = EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, ReseedEachEpoch(0), freeze(**end))
    fit_until_crash(make(), ReseedEachEpoch(0), freeze(**end), checkpoint, epoch=epoch)
    fit(resumed, ReseedEachEpoch(0), freeze(**end), ckpt_path=checkpoint.path)
    assert flatten(resumed.state_dict()) == flatten(whole.state_dict())
    assert resumed.trained == whole.trained[EPOCH * epoch :]


@pytest.mark.filterwarnings("ignore:.*called without a model", "ignore:.*there is no last checkpoint available")
@each_end
def test_an_exception_in_validation_leaves_nothing_frozen_and_a_run_to_resume(
    end: dict[str, Any], frozen_steps: int, tmp_path: Path
) -> None:
    whole, crashed, resumed = make(), make(), make()
    fit(whole, freeze(**end))
    with pytest.raises(CrashError):
        fit(crashed, freeze(**end), OnExceptionCheckpoint(tmp_path), CrashInValidation(epoch=0))
    assert {name for name, parameter in crashed.named_parameters() if parameter.requires_grad} == BACKBONE | HEAD
    fit(resumed, freeze(**end), ckpt_path=tmp_path / "on_exception.ckpt")
    assert flatten(resumed.state_dict()) == flatten(whole.state_dict())


@each_end
@pytest.mark.parametrize("ema_first", [True, False])
def test_an_average_beside_it_is_that_of_the_weights(end: dict[str, Any], frozen_steps: int, ema_first: bool) -> None:
    class Average(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            for name, parameter in pl_module.named_parameters():
                average[name] = (average[name] + parameter.detach()) / 2

    module, ema = make(), EMA(0.5, warmup=False)
    average = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    fit(module, *([ema, freeze(**end)] if ema_first else [freeze(**end), ema]), Average())
    state = ema.stored_weights(module)["ema"]
    torch.testing.assert_close({name: state[name] for name in average}, average)


def fit_two_processes(end: dict[str, Any], norm: bool) -> tuple[list[float], list[list[str]]]:
    module = Tuned(norm)  # batches of 4 in each process
    fit_distributed(module, freeze(**end), use_distributed_sampler=False)
    return flatten(module.network.state_dict()), [sorted(names) for names in module.trained]


@pytest.mark.parametrize(("end", "norm"), [({"until_epoch": 2}, False), ({"until_fraction": 0.4}, False), ({}, True)])
def test_two_processes_train_as_one_does(end: dict[str, Any], norm: bool) -> None:
    module = make(norm)
    fit(module, freeze(**end))
    first, second = run_distributed(fit_two_processes, end, norm)
    assert PROCESSES == 2
    assert first == second
    assert first[0] == pytest.approx(flatten(module.network.state_dict()), abs=1e-6)
    assert first[1] == [sorted(names) for names in module.trained]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"until_epoch": 0}, "until_epoch must be at least 1, not 0"),
        ({"until_fraction": 1.0}, "until_fraction must be between 0 and 1, not 1.0"),
        ({"until_epoch": 1, "until_fraction": 0.5}, "until_epoch=1 and until_fraction=0.5 are two ends; give one"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FreezeBackbone(**arguments)


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (lambda: FreezeBackbone(["net"]), r"Tuned has nothing named 'net'. It has: network.0, network.1, network.3, t"),
        (lambda: FreezeBackbone(all_but=["fc"]), "nothing named 'fc'"),
        (FreezeBackbone, "are 6 of the 6 parameters of Tuned that are trained. Name some of them"),
        (lambda: FreezeBackbone(["teacher"]), "are 0 of the 6 parameters"),
        (lambda: freeze(until_epoch=4), "until_epoch=4, but the run has only 4 epochs"),
    ],
)
def test_what_does_not_fit_the_module_or_the_run_is_refused(
    callback: Callable[[], FreezeBackbone], message: str
) -> None:
    module = make()
    with pytest.raises(ValueError, match=message):
        fit(module, callback())
    assert all(parameter.requires_grad for parameter in module.network.parameters())


@pytest.mark.filterwarnings("ignore:.*max_epochs")
def test_a_fraction_of_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"until_fraction=0\.5 of a run whose number of optimizer steps is unknown"):
        fit(make(), freeze(until_fraction=0.5), max_epochs=-1)


@pytest.mark.parametrize("end", [{"until_epoch": 3}, {"until_fraction": 0.5}])
def test_a_trial_of_one_step_is_not_refused_for_its_length(end: dict[str, Any]) -> None:
    module = make()
    fit(module, freeze(**end), fast_dev_run=True)
    assert module.trained == [HEAD]


@pytest.mark.parametrize("strategy", [FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy])
def test_strategies_that_shard_the_module_are_refused(strategy: type) -> None:
    class Sharded:
        pass

    trainer = Sharded()
    trainer.strategy = object.__new__(strategy)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=f"{strategy.__name__} shards the module"):
        freeze().setup(trainer, make(), "fit")  # type: ignore[arg-type]
