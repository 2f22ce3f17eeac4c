from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from callbacks import EpochCheckpoint, MultiScale, ReseedEachEpoch
from tests.callbacks.sized_net import SizedNet
from tests.helpers.crashes import SaveAt
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import fit, fit_until_crash
from tests.helpers.small_net import flatten


def make(every_n_batches: int = 1, seed: int | None = 3) -> MultiScale:
    return MultiScale([4, 8, 12, 16], divisor=4, every_n_batches=every_n_batches, seed=seed)


@pytest.mark.parametrize("every", [1, 2, 3, 10])
def test_every_batch_has_the_size_of_its_block(every: int) -> None:
    module, callback = SizedNet(), make(every)
    fit(module, callback)
    assert module.widths == [callback.draw(epoch, batch // every) for epoch in range(4) for batch in range(4)]
    assert all(height == width for height, width in module.sizes)


def test_all_sizes_come_up_equally_often_over_blocks_epochs_and_seeds() -> None:
    counts = Counter(
        make(seed=seed).draw(epoch, block) for seed in range(10) for epoch in range(20) for block in range(20)
    )
    assert counts.keys() == {4, 8, 12, 16}
    assert all(count == pytest.approx(1000, abs=4 * (4000 * 3 / 16) ** 0.5) for count in counts.values())


def test_the_seed_decides() -> None:
    draws = [[make(seed=seed).draw(0, block) for block in range(20)] for seed in (0, 0, 1)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_the_seed_is_by_default_that_of_torch_when_the_callback_is_made() -> None:
    L.seed_everything(5, verbose=False)
    callback = make(seed=None)
    L.seed_everything(6, verbose=False)
    assert [callback.draw(1, block) for block in range(20)] == [make(seed=5).draw(1, block) for block in range(20)]


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        ({"smallest": 64, "largest": 160}, [64, 96, 128, 160]),
        ({"smallest": 6, "largest": 12, "divisor": 3}, [6, 9, 12]),
        ({"smallest": 32, "largest": 32}, [32]),
        ({"sizes": [32, 96]}, [32, 96]),
    ],
)
def test_a_range_is_all_its_multiples(arguments: dict[str, Any], sizes: list[int]) -> None:
    assert MultiScale(**arguments).sizes == sizes


def test_batches_are_counted_not_optimizer_steps() -> None:
    module, callback = SizedNet(), make(2)
    fit(module, callback, accumulate_grad_batches=4, max_epochs=2)
    assert module.widths == [callback.draw(epoch, batch // 2) for epoch in range(2) for batch in range(4)]


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(epoch: int, tmp_path: Path) -> None:
    whole, resumed = SizedNet(), SizedNet()
    checkpoint = EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, ReseedEachEpoch(0), make())
    fit_until_crash(SizedNet(), ReseedEachEpoch(0), make(), checkpoint, epoch=epoch)
    fit(resumed, ReseedEachEpoch(0), make(), ckpt_path=checkpoint.path)
    assert resumed.sizes == whole.sizes[4 * epoch :]
    assert flatten(resumed.state_dict()) == flatten(whole.state_dict())


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_run_resumed_from_within_an_epoch_goes_on_with_the_sizes_of_its_batches(tmp_path: Path) -> None:
    path = tmp_path / "middle.ckpt"
    whole, resumed = SizedNet(), SizedNet()
    fit(whole, make(), SaveAt(path, "on_train_batch_end", epoch=1, batch=1))
    fit(resumed, make(), ckpt_path=path)
    assert resumed.sizes == whole.sizes[6:]


def fit_two_processes_with_seeds_of_their_own() -> list[int]:
    torch.manual_seed(torch.distributed.get_rank())
    module = SizedNet(batch_size=2)
    fit_distributed(module, make(seed=None), use_distributed_sampler=False)
    return module.widths


def test_processes_without_a_common_seed_follow_the_first() -> None:
    module = SizedNet()
    fit(module, make(seed=0))
    assert run_distributed(fit_two_processes_with_seeds_of_their_own) == [module.widths] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs sizes, or smallest and largest, not sizes=None, smallest=None and largest=None"),
        ({"sizes": [32], "smallest": 32, "largest": 64}, r"not sizes=\[32\], smallest=32 and largest=64"),
        ({"smallest": 32}, "smallest=32 and largest=None"),
        ({"sizes": [32], "largest": 64}, "smallest=None and largest=64"),
        ({"sizes": [32], "every_n_batches": 0}, "every_n_batches must be at least 1, not 0"),
        ({"smallest": 32, "largest": 80}, "multiples of divisor=32, which 80 is not"),
        ({"smallest": 48, "largest": 112}, "multiples of divisor=32, which 48, 80, 112 is not"),
        ({"smallest": 64, "largest": 32}, r"rising, and at least one, not \[64, 32\]"),
        ({"smallest": 32, "largest": 64, "divisor": 0}, "divisor must be at least 1, not 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"MultiScale: .*{message}"):
        MultiScale(**arguments)
