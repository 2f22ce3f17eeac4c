from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from callbacks import EpochCheckpoint, ProgressiveResizing, ReseedEachEpoch
from tests.callbacks.sized_net import SizedNet
from tests.helpers.crashes import SaveAt
from tests.helpers.one_weight import fit, fit_until_crash
from tests.helpers.small_net import flatten


def make(sizes: tuple[int, ...] = (4, 8), fraction: float | None = None) -> ProgressiveResizing:
    return ProgressiveResizing(sizes, fraction, divisor=4)


@pytest.mark.parametrize(
    ("sizes", "fraction", "steps"),
    [
        ([4], None, [8, 8]),
        ([4, 8], None, [6, 5, 5]),  # 16 steps are 5⅓ for each stage: one begins with the first step after its end
        ([4, 8], 0.25, [6, 6, 4]),
        ([4, 8], 0.5, [4, 4, 8]),
        ([8], 0.9, [2, 14]),
    ],
)
def test_the_stages_have_their_parts_of_the_run(sizes: list[int], fraction: float | None, steps: list[int]) -> None:
    module = SizedNet()
    fit(module, ProgressiveResizing(sizes, fraction, divisor=4))
    expected = [size for size, count in zip([*sizes, 12], steps, strict=True) for _ in range(count)]
    assert module.sizes == [(size, size) for size in expected]


@pytest.mark.parametrize("fraction", [0.1, 0.29, 0.3, 0.7])
def test_a_stage_whose_end_is_a_whole_step_has_no_step_more(fraction: float) -> None:
    module = SizedNet()
    fit(module, make((4,), fraction), max_epochs=25)
    assert module.widths.count(12) == round(100 * fraction)


def test_all_batches_of_one_optimizer_step_have_one_size() -> None:
    module = SizedNet()
    fit(module, make((4,), 0.4), accumulate_grad_batches=2, max_epochs=5)
    assert module.widths == [4] * 12 + [12] * 8


def test_a_run_that_ends_by_steps_has_its_stages() -> None:
    module = SizedNet()
    fit(module, make(), max_steps=6, max_epochs=-1)
    assert module.widths == [4, 4, 8, 8, 12, 12]


def test_images_that_are_not_square_keep_their_proportions() -> None:
    module = SizedNet(shape=(12, 24))
    fit(module, make(), max_epochs=3)
    assert module.sizes == [(4, 8)] * 4 + [(8, 16)] * 4 + [(12, 24)] * 4


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
def test_a_run_resumed_from_within_an_epoch_goes_on_in_its_stage(tmp_path: Path) -> None:
    path = tmp_path / "middle.ckpt"
    whole, resumed = SizedNet(), SizedNet()
    fit(whole, make(), SaveAt(path, "on_train_batch_end", epoch=1, batch=2))
    fit(resumed, make(), ckpt_path=path)
    assert resumed.sizes == whole.sizes[7:]


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"full_size_fraction must be above 0 and below 1, not {fraction}"):
        make(fraction=fraction)


@pytest.mark.parametrize("shape", [(8, 8), (6, 20)])
def test_sizes_that_are_not_below_that_of_the_images_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"sizes=\[4, 8\], but the images are loaded in {shape[0]} x {shape[1]} pix"):
        fit(SizedNet(shape=shape), make())


class Unsized(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return iter([(torch.zeros(1, 12, 12), 0)] * 8)


def test_a_run_of_unknown_length_is_refused() -> None:
    class UnsizedNet(SizedNet):
        def train_dataloader(self) -> DataLoader:
            return DataLoader(Unsized(), 4)

    with pytest.raises(ValueError, match="parts of the run, whose number of optimizer steps is unknown"):
        fit(UnsizedNet(), make())
    module = UnsizedNet()
    fit(module, make(), max_steps=3)
    assert module.widths == [4, 8, 12]
