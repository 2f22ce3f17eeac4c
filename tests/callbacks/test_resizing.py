"""Resized batches against torchvision's own resizing; the callbacks that choose a size, in what they have in common."""

from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from torchvision.transforms.v2 import functional as tv

from callbacks import EMA, LinearWarmup, MultiScale, ProgressiveResizing
from callbacks.resizing import TrainingSize, resize_batch
from tests.callbacks.sized_net import SizedNet
from tests.helpers.crashes import CrashInValidation
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import CrashError, fit, make_trainer
from tests.helpers.small_net import flatten

MAKERS: dict[str, Callable[[], TrainingSize]] = {
    "multi-scale": lambda: MultiScale([4, 8, 12, 16], divisor=4, every_n_batches=2, seed=3),
    "progressive": lambda: ProgressiveResizing([4, 8], divisor=4),
}
each_callback = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def make_images(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [8, 16, 24, 48])
def test_images_are_resized_as_torchvision_does(size: int, dtype: torch.dtype) -> None:
    images = make_images(3, 2, 24, 24, dtype=dtype)
    resized = resize_batch(images, size)
    assert resized.dtype == dtype
    torch.testing.assert_close(resized, tv.resize_image(images, [size, size], antialias=True))


@pytest.mark.parametrize(
    ("shape", "size", "divisor", "expected"),
    [
        ((20, 30), 10, 5, (10, 15)),
        ((30, 20), 10, 5, (15, 10)),
        ((20, 30), 32, 32, (32, 64)),  # 48 is half way, and Python rounds to the even multiple
        ((20, 24), 32, 32, (32, 32)),
        ((20, 30), 40, 1, (40, 60)),
    ],
)
def test_the_shorter_side_has_the_size_and_the_longer_one_keeps_the_proportions(
    shape: tuple[int, int], size: int, divisor: int, expected: tuple[int, int]
) -> None:
    assert resize_batch(make_images(1, 1, *shape), size, divisor).shape[-2:] == expected


def test_the_rest_of_a_batch_stays_and_the_batch_itself_is_not_changed() -> None:
    images, targets, weights = make_images(2, 1, 8, 8), torch.tensor([0, 1]), torch.ones(2)
    pair = namedtuple("pair", "images targets")
    for batch in ((images, targets), [images, targets, weights], pair(images, targets)):
        resized = resize_batch(batch, 4)
        assert type(resized) is type(batch)
        assert resized[0].shape == (2, 1, 4, 4)
        assert batch[0] is images
        assert len(resized) == len(batch)
        assert all(found is given for found, given in zip(resized[1:], batch[1:], strict=True))


def test_a_batch_that_has_the_size_is_the_same_object() -> None:
    batch = (make_images(2, 1, 8, 12), torch.zeros(2))
    assert resize_batch(batch, 8) is batch


def test_channels_last_images_stay_so() -> None:
    images = make_images(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    assert resize_batch(images, 4).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(2, 3), r"not a Tensor with torch.float32 \(2, 3\)"),
        ((torch.zeros(2, 1, 8, 8, dtype=torch.uint8), 1), r"not a tuple with torch.uint8 \(2, 1, 8, 8\)"),
        ({"images": torch.zeros(2, 1, 8, 8)}, "not a dict with dict"),
        ([], "not a list with list"),
    ],
)
def test_a_batch_without_images_is_refused(batch: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        resize_batch(batch, 4)


@pytest.mark.parametrize(
    ("sizes", "divisor", "message"),
    [
        ([32, 48, 80], 32, "all sizes must be multiples of divisor=32, which 48, 80 is not"),
        ([], 32, r"sizes must be positive and rising, and at least one, not \[\]"),
        ([64, 32], 32, r"positive and rising, and at least one, not \[64, 32\]"),
        ([32, 32], 32, r"not \[32, 32\]"),
        ([0, 32], 32, r"not \[0, 32\]"),
        ([33, 2], 2, r"rising, and at least one, not \[33, 2\]; all sizes must be multiples of divisor=2, which 33 is"),
        ([32], 0, "divisor must be at least 1, not 0"),
    ],
)
@pytest.mark.parametrize("kind", [MultiScale, ProgressiveResizing])
def test_sizes_that_cannot_be_are_refused(kind: type, sizes: list[int], divisor: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: .*{message}"):
        kind(sizes, divisor=divisor)


def test_two_size_callbacks_at_once_are_refused() -> None:
    module = SizedNet()
    with pytest.raises(ValueError, match="MultiScale and ProgressiveResizing would each choose the size"):
        fit(module, *(make() for make in MAKERS.values()))
    assert "training_step" not in vars(module)


@each_callback
def test_validation_and_test_see_the_images_as_they_are_loaded(make: Callable[[], TrainingSize]) -> None:
    module = SizedNet()
    trainer = fit(module, make(), val_check_interval=2, num_sanity_val_steps=1)
    trainer.test(module, verbose=False)
    assert len(set(module.sizes)) > 1
    assert module.validated == {(12, 12)}


@each_callback
def test_a_fit_leaves_the_module_as_it_was(make: Callable[[], TrainingSize]) -> None:
    module, callback = SizedNet(), make()
    fit(module, callback)
    first = list(module.sizes)
    assert "training_step" not in vars(module)
    fit(module, callback)  # the callback begins anew
    assert module.sizes == first * 2
    fit(module, max_epochs=1)
    assert module.sizes[-4:] == [(12, 12)] * 4


@pytest.mark.filterwarnings("ignore:.*called without a model", "ignore:.*there is no last checkpoint available")
@each_callback
def test_an_exception_in_validation_leaves_the_module_as_it_was_and_a_run_to_resume(
    make: Callable[[], TrainingSize], tmp_path: Path
) -> None:
    whole, crashed, resumed = SizedNet(), SizedNet(), SizedNet()
    fit(whole, make())
    with pytest.raises(CrashError):
        fit(crashed, make(), OnExceptionCheckpoint(tmp_path), CrashInValidation(epoch=1))
    assert "training_step" not in vars(crashed)
    fit(resumed, make(), ckpt_path=tmp_path / "on_exception.ckpt")
    assert crashed.sizes + resumed.sizes == whole.sizes
    assert flatten(resumed.state_dict()) == flatten(whole.state_dict())


@each_callback
def test_the_global_generators_are_left_alone(make: Callable[[], TrainingSize]) -> None:
    torch.manual_seed(0)
    fit(SizedNet())
    plain = torch.rand(1)
    torch.manual_seed(0)
    fit(SizedNet(), make())
    assert torch.rand(1) == plain


@each_callback
def test_mixed_precision_trains_on_the_same_sizes(make: Callable[[], TrainingSize]) -> None:
    full, mixed = SizedNet(), SizedNet()
    fit(full, make())
    fit(mixed, make(), precision="bf16-mixed")
    assert mixed.sizes == full.sizes
    assert mixed.dtypes == {torch.bfloat16}
    assert flatten(mixed.state_dict()) == pytest.approx(flatten(full.state_dict()), abs=0.05)


@each_callback
def test_other_callbacks_work_beside_it(make: Callable[[], TrainingSize]) -> None:
    alone, beside, ema = SizedNet(), SizedNet(), EMA(0.5)
    fit(alone, make(), LinearWarmup(1))
    fit(beside, ema, LinearWarmup(1), make())
    assert flatten(beside.state_dict()) == flatten(alone.state_dict())
    assert ema.stored_weights(beside)["ema"].keys() == beside.state_dict().keys()


def fit_two_processes(name: str) -> tuple[list[float], list[tuple[int, ...]]]:
    module = SizedNet(batch_size=2)
    fit_distributed(module, MAKERS[name](), use_distributed_sampler=False)
    return flatten(module.state_dict()), module.sizes


@pytest.mark.parametrize("name", MAKERS)
def test_two_processes_train_as_one_does(name: str) -> None:
    module = SizedNet(batch_size=4)
    fit(module, MAKERS[name]())
    first, second = run_distributed(fit_two_processes, name)
    assert first == second
    assert first[1] == module.sizes
    assert first[0] == pytest.approx(flatten(module.state_dict()), abs=1e-6)


def test_a_batch_of_another_form_ends_the_fit_with_a_sentence() -> None:
    class Flat(SizedNet):
        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(torch.zeros(8, 3), 4)

    with pytest.raises(TypeError, match="A batch to resize must be floating-point images"):
        make_trainer(MAKERS["progressive"]()).fit(Flat())
