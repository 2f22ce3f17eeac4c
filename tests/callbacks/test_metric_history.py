import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from callbacks import EpochCheckpoint, LinearWarmup, MetricHistory
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import OneWeight, fit, fit_until_crash


class Logging(OneWeight):
    """Log the step count during the epoch, at its end, and at the end of the first epoch only."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log("train/last_step", self.steps, on_step=True, on_epoch=False)
        return super().training_step(batch, batch_idx)

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", -self.steps)
        if self.current_epoch == 0:
            self.log("train/once", 7.0)


def rows(path: Path) -> list[dict[str, float | None]]:
    with path.open() as lines:
        return [{name: float(value) if value else None for name, value in row.items()} for row in csv.DictReader(lines)]


def expected_row(epoch: int, **changes: Any) -> dict[str, float | None]:
    steps = 4 * (epoch + 1)
    return {
        "epoch": epoch,
        "step": steps,
        "lr": 1.0,
        "train/last_step": steps - 1,
        "val/weight": steps,
        "train/loss": -steps,
        "train/once": 7.0 if epoch == 0 else None,
        **changes,
    }


def test_the_file_holds_what_was_logged_at_the_epochs_end_by_the_module_included(tmp_path: Path) -> None:
    history = MetricHistory(tmp_path / "new" / "metrics.csv")
    fit(Logging(), history)
    assert rows(history.path) == [expected_row(epoch) for epoch in range(4)]
    assert [path.name for path in history.path.parent.iterdir()] == ["metrics.csv"]


def test_an_epoch_without_validation_has_no_validation_metrics(tmp_path: Path) -> None:
    history = MetricHistory(tmp_path / "metrics.csv")
    fit(Logging(), history, check_val_every_n_epoch=2)
    assert [row["val/weight"] for row in rows(history.path)] == [None, 8, None, 16]


def test_a_metric_that_stays_the_same_is_written_in_every_epoch(tmp_path: Path) -> None:
    class Constant(OneWeight):
        def validation_step(self, batch: Tensor, batch_idx: int) -> None:
            self.log("val/constant", 3.0)

    history = MetricHistory(tmp_path / "metrics.csv")
    fit(Constant(), history)
    assert [row["val/constant"] for row in rows(history.path)] == [3.0] * 4


def test_lr_is_that_of_the_last_step_of_the_epoch(tmp_path: Path) -> None:
    history, module = MetricHistory(tmp_path / "metrics.csv"), OneWeight()
    fit(module, LinearWarmup(epochs=2), history)
    assert [row["lr"] for row in rows(history.path)] == module.first_rates[3::4] == [0.5, 1, 1, 1]


@pytest.mark.parametrize("checkpoint_first", [True, False])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_the_file_of_a_resumed_run_equals_that_of_the_uninterrupted_one(
    epoch: int, checkpoint_first: bool, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"check_val_every_n_epoch": 2}
    whole = MetricHistory(tmp_path / "whole.csv")
    fit(Logging(), whole, **settings)
    checkpoint, history = EpochCheckpoint(tmp_path / "last.ckpt", 0), MetricHistory(tmp_path / "metrics.csv")
    callbacks = [checkpoint, history] if checkpoint_first else [history, checkpoint]
    fit_until_crash(Logging(), *callbacks, epoch=epoch, **settings)
    fit(Logging(), *callbacks, ckpt_path=checkpoint.path, **settings)
    assert history.path.read_text() == whole.path.read_text()


def test_the_file_is_written_when_the_run_crashes(tmp_path: Path) -> None:
    history = MetricHistory(tmp_path / "metrics.csv")
    fit_until_crash(Logging(), history, epoch=2)
    assert rows(history.path) == [expected_row(0), expected_row(1)]


def test_a_second_fit_starts_anew(tmp_path: Path) -> None:
    history = MetricHistory(tmp_path / "metrics.csv")
    fit(Logging(), history)
    fit(Logging(), history, max_epochs=2)
    assert rows(history.path) == [expected_row(0), expected_row(1)]


def fit_and_write(folder: Path) -> None:
    fit_distributed(OneWeight(), MetricHistory(folder / f"{torch.distributed.get_rank()}.csv"))


def test_the_first_of_two_processes_writes(tmp_path: Path) -> None:
    run_distributed(fit_and_write, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["0.csv"]
    assert [row["val/weight"] for row in rows(tmp_path / "0.csv")] == [4, 8, 12, 16]
