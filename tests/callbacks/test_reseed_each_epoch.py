import random
from itertools import chain, product
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from callbacks import ReseedEachEpoch, epoch_seed
from tests.callbacks.noisy_net import NoisyNet
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import OneWeight, fit

Draws = list[tuple[float, float, float]]


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(()).item()


class DrawEachBatch(Callback):
    """Record random numbers of every batch."""

    def __init__(self) -> None:
        self.draws: Draws = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.draws.append(draw())


class Disturb(Callback):
    """Draw numbers at the end of every epoch but the first, as another callback may."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for _ in range(trainer.current_epoch):
            draw()


def draws_of(seed: int, *others: Callback) -> Draws:
    recorder = DrawEachBatch()
    fit(OneWeight(), *others, ReseedEachEpoch(seed), recorder)
    return recorder.draws


def test_numbers_are_the_same_whatever_was_drawn_before() -> None:
    first = draws_of(5)
    draw()
    assert draws_of(5, Disturb()) == first
    assert len(set(first)) == 16


def test_another_seed_gives_other_numbers() -> None:
    assert not set(draws_of(5)) & set(draws_of(6))


def test_seeds_of_neighbours_are_all_different_and_fit_numpy() -> None:
    seeds = {epoch_seed(*key) for key in product(range(20), repeat=3)}
    assert len(seeds) == 20**3
    assert min(seeds) >= 0 and max(seeds) < 2**32


def test_seed_of_a_seed_epoch_and_rank_stays_what_it_was() -> None:
    assert [epoch_seed(0, 0, 0), epoch_seed(1, 2, 3)] == [1421166345, 2649308335]


class RecordBatches(Callback):
    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(batch[0][:, 0].tolist())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_order_of_the_batches_follows_from_the_seed_in_the_first_epoch_too(num_workers: int) -> None:
    runs = [RecordBatches() for _ in range(3)]
    for seed, run in zip((1, 1, 2), runs, strict=True):
        torch.manual_seed(random.SystemRandom().getrandbits(32))
        fit(NoisyNet(num_workers=num_workers), ReseedEachEpoch(seed), run, max_epochs=2)
    assert runs[0].batches == runs[1].batches
    assert runs[0].batches[:4] != runs[2].batches[:4]
    assert sorted(chain(*runs[0].batches[:4])) == sorted(chain(*runs[0].batches[4:]))


def draws_of_this_process() -> Draws:
    recorder = DrawEachBatch()
    fit_distributed(OneWeight(), ReseedEachEpoch(5), recorder)
    return recorder.draws


def test_processes_draw_different_numbers_and_the_first_draws_those_of_a_single_one() -> None:
    first, second = run_distributed(draws_of_this_process)
    assert first == draws_of(5)
    assert len(set(first) | set(second)) == 32
