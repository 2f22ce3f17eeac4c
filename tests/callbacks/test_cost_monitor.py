import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from callbacks import CostMonitor, EpochCheckpoint, cost_monitor
from callbacks.cost_monitor import count_images
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import OneWeight, fit, fit_until_crash
from tests.helpers.small_net import SmallNet, Trajectory

BATCH_SIZES = (3, 3, 3, 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a clock that stands still unless its `now` is moved."""
    fake = SimpleNamespace(now=1000.0)
    fake.perf_counter = lambda: fake.now
    monkeypatch.setattr(cost_monitor, "time", fake)
    return fake


class Timed(OneWeight):
    """10 images in 4 batches; a training batch lasts 1 second, one of validation 100, and the end of training 5."""

    def __init__(self, clock: SimpleNamespace) -> None:
        super().__init__()
        self.clock = clock
        self.frozen = nn.Linear(3, 2).requires_grad_(False)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.clock.now += 1
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.clock.now += 100

    def on_train_epoch_end(self) -> None:
        self.clock.now += 5

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.zeros(10, 1, 2, 2), batch_size=3)


def test_what_comes_before_the_training_has_no_part_in_its_costs(clock: SimpleNamespace) -> None:
    class SlowStart(L.Callback):
        def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            clock.now += 1000

    costs = CostMonitor()
    fit(Timed(clock), SlowStart(), costs, max_epochs=1, num_sanity_val_steps=1)
    assert costs.summary()["seconds"] == 4 + 100 + 5
    assert costs.summary()["images_per_second"] == sum(BATCH_SIZES) / 4


def test_images_are_counted_exactly_and_validation_is_left_out_of_their_time(clock: SimpleNamespace) -> None:
    costs = CostMonitor()
    fit(Timed(clock), costs)
    summary = costs.summary()
    assert summary["images_per_second"] == 4 * sum(BATCH_SIZES) / (4 * 4)
    assert summary["seconds"] == 4 * (4 + 100 + 5)


def test_training_that_follows_a_validation_within_the_epoch_counts(clock: SimpleNamespace) -> None:
    costs = CostMonitor()
    fit(Timed(clock), costs, val_check_interval=1)
    assert costs.summary()["images_per_second"] == 4 * sum(BATCH_SIZES) / (4 * 4)


def test_what_runs_after_the_last_validation_of_an_epoch_is_no_training(clock: SimpleNamespace) -> None:
    class SlowSave(L.Callback):
        def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            clock.now += 50

    costs = CostMonitor()
    fit(Timed(clock), costs, SlowSave())
    assert costs.summary()["images_per_second"] == 4 * sum(BATCH_SIZES) / (4 * 4)


def test_parameters_that_are_frozen_count_too(clock: SimpleNamespace) -> None:
    costs = CostMonitor()
    fit(Timed(clock), costs, max_epochs=1)
    assert costs.summary()["parameters"] == 1 + 3 * 2 + 2


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_adds_to_the_costs_of_the_epochs_before(
    epoch: int, clock: SimpleNamespace, tmp_path: Path
) -> None:
    whole, crashed, resumed = CostMonitor(), CostMonitor(), CostMonitor()
    fit(Timed(clock), whole)
    checkpoint = EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit_until_crash(Timed(clock), crashed, checkpoint, epoch=epoch)
    clock.now += 1e6
    fit(Timed(clock), resumed, ckpt_path=checkpoint.path)
    assert {**resumed.summary(), "peak_memory_mb": 0} == {**whole.summary(), "peak_memory_mb": 0}


def test_a_checkpoint_within_an_epoch_holds_the_time_up_to_it(clock: SimpleNamespace) -> None:
    class Read(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *arguments: Any) -> None:
            seconds.append(costs.state_dict()["seconds"])

    seconds: list[float] = []
    costs = CostMonitor()
    fit(Timed(clock), costs, Read(), max_epochs=1)
    assert seconds == [1, 2, 3, 4]


def test_the_clocks_stop_when_the_run_crashes(clock: SimpleNamespace) -> None:
    costs = CostMonitor()
    fit_until_crash(Timed(clock), costs, epoch=1)
    clock.now += 1e6
    assert costs.summary()["seconds"] == 4 + 100 + 5 + 2
    assert costs.summary()["images_per_second"] == (sum(BATCH_SIZES) + 6) / (4 + 2)


def test_a_second_fit_starts_anew_and_a_test_keeps_the_costs(clock: SimpleNamespace) -> None:
    costs = CostMonitor()
    fit(Timed(clock), costs)
    trainer = fit(Timed(clock), costs, max_epochs=1)
    trainer.validate(trainer.lightning_module, verbose=False)
    assert costs.summary()["seconds"] == 4 + 100 + 5


def test_a_validation_after_a_run_that_stopped_within_an_epoch_starts_no_clock(clock: SimpleNamespace) -> None:
    costs = CostMonitor()
    trainer = fit(Timed(clock), costs, max_steps=6)
    trainer.validate(trainer.lightning_module, verbose=False)
    clock.now += 1000
    assert costs.summary()["images_per_second"] == (sum(BATCH_SIZES) + 6) / 6


def test_a_peak_of_memory_before_the_interruption_is_remembered() -> None:
    costs = CostMonitor()
    costs.load_state_dict({**costs.state_dict(), "peak_memory_mb": 1e9})
    costs.on_train_epoch_end(L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), OneWeight())
    assert costs.summary()["peak_memory_mb"] == 1e9


def test_peak_memory_of_the_processor_is_that_of_the_process() -> None:
    costs = CostMonitor()
    fit(OneWeight(), costs, max_epochs=1)
    assert 10 < costs.summary()["peak_memory_mb"] < 100_000


def test_speed_without_training_is_not_a_number() -> None:
    assert math.isnan(CostMonitor().summary()["images_per_second"])


def image(size: int = 4) -> Tensor:
    return torch.zeros(3, size, size)


IMAGES = torch.zeros(5, 3, 4, 4)
TARGETS = torch.zeros(5)
LIST = [image(size) for size in (4, 5, 6, 7, 8)]
BOXES = [{"boxes": torch.zeros(size, 4)} for size in range(5)]


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        (IMAGES, TARGETS),
        [IMAGES, TARGETS],
        [IMAGES],
        (torch.zeros(5, 7), TARGETS),
        {"image": IMAGES, "target": TARGETS},
        {"id": ["a", "b"], "images": LIST},
        ((IMAGES, IMAGES), TARGETS),
        LIST,
        (LIST, BOXES),
        [tuple(LIST), tuple(BOXES)],
        [(image(), 1)] * 5,
        [(image(), {"boxes": torch.zeros(2, 4)})] * 5,
        [{"target": 1, "image": image()}] * 5,
    ],
)
def test_images_of_a_batch_of_any_form_are_counted(batch: Any) -> None:
    assert count_images(batch) == 5


@pytest.mark.parametrize("batch", ["image.png", ["image.png"], [], {}, None, torch.zeros(())])
def test_a_batch_of_unknown_form_is_refused(batch: Any) -> None:
    with pytest.raises(TypeError, match="cannot count the images"):
        count_images(batch)


def count_on_this_process() -> float:
    costs = CostMonitor()
    fit_distributed(OneWeight(), costs)
    return costs.state_dict()["images"]


def test_each_of_two_processes_counts_its_own_images() -> None:
    assert run_distributed(count_on_this_process) == [16, 16]


def test_operations_are_those_of_the_formula_and_change_nothing() -> None:
    counting, plain = Trajectory(), Trajectory()
    costs = CostMonitor(count_flops=True)
    for callbacks in ((costs, counting), (plain,)):
        L.seed_everything(0)
        fit(SmallNet(), *callbacks)
    weights = 3 * 8 + 8 * 2  # of the two linear layers; each weight is a multiplication and an addition
    forward, gradients, signals = 2 * weights, 2 * weights, 2 * 8 * 2  # the first layer passes no signal back
    assert costs.summary()["train_flops_per_image"] == forward + gradients + signals
    assert counting.states == plain.states


def test_operations_are_counted_once_and_survive_a_resume(tmp_path: Path) -> None:
    before = CostMonitor(count_flops=True)
    fit_until_crash(SmallNet(), before, EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0), epoch=2)
    after = CostMonitor(count_flops=True)
    fit(SmallNet(), after, ckpt_path=tmp_path / "last.ckpt")
    assert after.summary()["train_flops_per_image"] == before.summary()["train_flops_per_image"] > 0


def test_operations_that_nobody_asked_for_are_not_counted() -> None:
    costs = CostMonitor()
    fit(SmallNet(), costs, max_epochs=1)
    assert costs.summary()["train_flops_per_image"] == 0


def test_a_crash_in_the_counted_step_ends_the_counting() -> None:
    class Broken(SmallNet):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(Broken(), CostMonitor(count_flops=True))
    with FlopCounterMode(display=False) as counter:
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert counter.get_total_flops() == 2 * 2 * 3 * 4
