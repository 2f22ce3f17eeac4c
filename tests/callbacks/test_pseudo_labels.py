import copy
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from callbacks import EpochCheckpoint, MultiScale, PseudoLabels, ReseedEachEpoch
from callbacks.pseudo_labels import confident_labels
from datamodules import Digits, StreamedImageFolder
from datamodules.transforms import BatchRandomCrop
from lit_modules import LitClassifier
from lit_modules.models import ResNet
from tests.callbacks.unlabeled_points import UnlabeledPoints
from tests.datamodules.image_files import write_folder
from tests.helpers.crashes import CrashInValidation
from tests.helpers.distributed import run_distributed
from tests.helpers.one_weight import Crash, CrashError, fit
from tests.helpers.small_net import SmallNet, Trajectory, flatten


class RecordingNet(SmallNet):
    """Writes down the batches of its training steps."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.batches.append((batch[0], batch[1]))
        return super().training_step(batch, batch_idx)


class Labels(L.Callback):
    """Writes down the labels in each epoch, and a copy of the module; stands behind `PseudoLabels`."""

    def __init__(self, callback: PseudoLabels) -> None:
        self.callback = callback
        self.labels: list[list[int]] = []
        self.states: list[dict[str, Tensor]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.labels.append(self.callback.labels.tolist())
        self.states.append(copy.deepcopy(pl_module.state_dict()))


def classifier(**arguments: Any) -> LitClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResNet(10, [1, 1], "basic", width=4, in_channels=1, stem="small", dropout=0.2)
    return LitClassifier(network, nn.CrossEntropyLoss(), partial(torch.optim.SGD, lr=0.1, momentum=0.9), **arguments)


def digits(**arguments: Any) -> Digits:
    return Digits(labels_per_class=10, batch_size=25, transforms=[BatchRandomCrop(padding=1)], **arguments)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9])
def test_those_above_the_threshold_are_taken_as_in_a_loop_over_single_images(threshold: float) -> None:
    data, module = digits(normalize=True), classifier()
    callback = PseudoLabels(threshold, start_epoch=15, every_n_epochs=1)
    seen = Labels(callback)
    fit(module, callback, seen, ReseedEachEpoch(0), datamodule=data, max_epochs=16, limit_val_batches=0)
    assert seen.labels[:15] == [[]] * 15
    network = module.network.eval()
    module.load_state_dict(seen.states[15])
    mean, sd = (part.cpu() for part in data._statistics)
    expected = []
    for image in data.sets["unlabeled"].images:
        with torch.no_grad():
            probabilities = network(((image / 255 - mean) / sd)[None])[0].softmax(0).tolist()
        best = max(probabilities)
        expected.append(probabilities.index(best) if best > threshold else -1)
    assert seen.labels[15] == expected
    taken = sum(label >= 0 for label in expected)
    assert taken == len(expected) if threshold == 0 else 0 < taken < len(expected)


def test_the_threshold_itself_is_not_above_it() -> None:
    probabilities = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.0, 0.75], [0.0, 1.0, 0.0]])
    assert confident_labels(probabilities, 0.5).tolist() == [-1, 2, 1]


def test_labels_are_chosen_at_the_start_and_every_so_often() -> None:
    callback = PseudoLabels(0.5, start_epoch=2, every_n_epochs=3)
    seen = Labels(callback)
    fit(SmallNet(), callback, seen, ReseedEachEpoch(0), datamodule=UnlabeledPoints(), max_epochs=8)
    assert seen.labels[:2] == [[], []]
    assert seen.labels[2] == seen.labels[3] == seen.labels[4]
    assert seen.labels[5] == seen.labels[6] == seen.labels[7]
    assert seen.labels[5] != seen.labels[2]


def test_a_step_sees_its_labeled_batch_and_a_batch_of_those_taken_with_their_labels() -> None:
    data, module, callback = UnlabeledPoints(), RecordingNet(), PseudoLabels(0.6, start_epoch=1, every_n_epochs=9)
    trainer = fit(module, callback, ReseedEachEpoch(0), datamodule=data, max_epochs=4)
    assert trainer.global_step == 16
    taken = {index: label for index, label in enumerate(callback.labels.tolist()) if label >= 0}
    assert 4 < len(taken) < 20
    assert [len(points) for points, _ in module.batches] == [4] * 4 + [8] * 12
    seen = []
    for step, (points, labels) in enumerate(module.batches):
        first = step % 4 * 4
        assert ((points[:4] - module.points[first : first + 4]).abs() <= 0.0101).all()
        found = data.find(points[4:])
        assert labels[4:].tolist() == [taken[index] for index in found]
        seen.append(found)
    size = len(taken) // 4  # batches in a pass over those taken
    for epoch in (4, 8, 12):
        one_pass = [index for found in seen[epoch : epoch + min(size, 4)] for index in found]
        assert len(set(one_pass)) == len(one_pass)
    assert len({tuple(seen[epoch]) for epoch in (4, 8, 12)}) == 3


def test_few_images_make_a_small_batch_and_a_batch_may_have_another_size() -> None:
    for batch_size, expected in ((3, 3), (100, 20)):
        module = RecordingNet()
        callback = PseudoLabels(0.0, start_epoch=0, batch_size=batch_size)
        fit(module, callback, datamodule=UnlabeledPoints(), max_epochs=1)
        assert [len(points) for points, _ in module.batches] == [4 + expected] * 4


def test_where_none_is_sure_the_training_is_as_without() -> None:
    plain, watched = Trajectory(), Trajectory()
    fit(SmallNet(), ReseedEachEpoch(0), plain, datamodule=UnlabeledPoints())
    fit(SmallNet(), ReseedEachEpoch(0), PseudoLabels(1 - 1e-12, 1, 1), watched, datamodule=UnlabeledPoints())
    assert watched.states == plain.states


def test_the_number_taken_is_logged() -> None:
    callback = PseudoLabels(0.6, start_epoch=1)
    trainer = fit(SmallNet(), callback, ReseedEachEpoch(0), datamodule=UnlabeledPoints())
    assert trainer.callback_metrics["train/pseudo_labels"] == (callback.labels >= 0).sum() > 0


def test_mixed_images_and_other_sizes_are_those_of_the_labeled_batch() -> None:
    shapes = []

    class Watched(LitClassifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            shapes.append((tuple(batch[0].shape), tuple(batch[1].shape)))
            return super().training_step(batch, batch_idx)

    module = classifier()
    module.__class__ = Watched
    sizes = MultiScale([4], divisor=4, seed=0)
    data = digits(mixes=[v2.MixUp(num_classes=10)])
    fit(module, PseudoLabels(0.0, start_epoch=0), sizes, datamodule=data, max_epochs=1, limit_val_batches=0)
    assert shapes == [((50, 1, 4, 4), (50, 10))] * 4


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_workers_read_keep_their_labels_and_random_geometry(workers: int, tmp_path: Path) -> None:
    class Watched(LitClassifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            levels = (batch[0][4:].amax((1, 2, 3)) * 255).round().long().tolist()
            seen.extend(zip(levels, batch[1][4:].tolist(), strict=True))
            return super().training_step(batch, batch_idx)

    seen: list[tuple[int, int]] = []
    write_folder(tmp_path, {part: {"a": 8, "b": 8} for part in ("train", "val", "test")}, size=(8, 8))
    geometry = v2.RandomCrop(8, padding=1)
    data = StreamedImageFolder(
        str(tmp_path), None, 8, 8, geometry, num_workers=workers, labels_per_class=4, batch_size=4
    )
    network = ResNet(2, [1], "basic", width=4, stem="small")
    module = Watched(network, nn.CrossEntropyLoss(), partial(torch.optim.SGD, lr=0.1))
    callback = PseudoLabels(0.0, start_epoch=1)
    fit(module, callback, ReseedEachEpoch(0), datamodule=data, max_epochs=2, limit_val_batches=0)
    unlabeled = data.sets["unlabeled"]
    levels = [int(unlabeled[index][0].max()) for index in range(len(unlabeled))]
    taken = dict(zip(levels, callback.labels.tolist(), strict=True))
    assert len(taken) == 8
    assert sorted(level for level, _ in seen) == sorted(levels)
    assert all(taken[level] == label for level, label in seen)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(epoch: int, tmp_path: Path) -> None:
    whole, resumed, callback, again = SmallNet(), SmallNet(), *(PseudoLabels(0.6, 1, 2) for _ in range(2))
    seed, checkpoint = ReseedEachEpoch(0), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, callback, seed, datamodule=UnlabeledPoints())
    with pytest.raises(CrashError):
        fit(SmallNet(), PseudoLabels(0.6, 1, 2), seed, checkpoint, Crash(epoch), datamodule=UnlabeledPoints())
    fit(resumed, again, seed, datamodule=UnlabeledPoints(), ckpt_path=checkpoint.path)
    assert flatten(resumed.state_dict()) == flatten(whole.state_dict())
    assert again.labels.tolist() == callback.labels.tolist()
    assert (again.labels >= 0).any()


def test_an_exception_in_validation_leaves_the_module_as_it_was() -> None:
    module = SmallNet()
    with pytest.raises(CrashError):
        fit(module, CrashInValidation(epoch=1), PseudoLabels(0.5, start_epoch=0), datamodule=UnlabeledPoints())
    assert "training_step" not in vars(module)


def test_predicting_leaves_every_part_in_its_mode_and_the_trainer_in_training_even_if_it_fails() -> None:
    class Fragile(SmallNet):
        breaks = False

        def forward(self, points: Tensor) -> Tensor:
            if self.breaks and not self.training:
                raise CrashError
            return super().forward(points)

    class Look(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            pl_module.network[1].eval()
            for pl_module.breaks in (False, True):
                try:
                    callback.choose(trainer, pl_module)
                except CrashError:
                    assert pl_module.breaks
                modes.append((trainer.training, pl_module.training, *(part.training for part in pl_module.network)))
            pl_module.breaks = False

    modes: list[tuple[bool, ...]] = []
    callback = PseudoLabels(0.5, start_epoch=3)
    fit(Fragile(), callback, Look(), datamodule=UnlabeledPoints(), max_epochs=4, limit_val_batches=0)
    assert modes == [(True, True, True, False, True, True, True)] * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.0}, "threshold must be from 0 to below 1, not 1.0"),
        ({"start_epoch": -1, "every_n_epochs": 0}, "start_epoch must be at least 0, not -1; every_n_epochs must be at"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"PseudoLabels: {message}"):
        PseudoLabels(**arguments)


def test_a_run_that_ends_before_the_first_choice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"start_epoch=4, but .* only 4 epochs\. Set start_epoch to at most 3"):
        fit(SmallNet(), PseudoLabels(start_epoch=4), datamodule=UnlabeledPoints())


def test_data_without_unlabeled_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"there are no unlabeled images\. .* here it is UnlabeledPoints"):
        fit(SmallNet(), PseudoLabels(start_epoch=0), datamodule=UnlabeledPoints(count=3))


def fit_two_processes() -> tuple[list[float], list[int], list[tuple[int, int]]]:
    data, module, callback = UnlabeledPoints(count=21), RecordingNet(), PseudoLabels(0.55, 1, 1)
    fit(module, ReseedEachEpoch(0), callback, datamodule=data, strategy="ddp", devices=2, max_epochs=2)
    pairs = [
        pair
        for points, labels in module.batches[4:]
        for pair in zip(data.find(points[4:]), labels[4:].tolist(), strict=True)
    ]
    return flatten(dict(module.named_parameters())), callback.labels.tolist(), pairs


def test_two_processes_agree_on_labels_and_weights_and_share_those_taken() -> None:
    (weights, labels, pairs), (other_weights, other_labels, other_pairs) = run_distributed(fit_two_processes)
    assert labels == other_labels
    assert len(labels) == 21
    assert any(label >= 0 for label in labels)
    assert weights == other_weights
    assert all(labels[index] == label for index, label in pairs + other_pairs)
    first, second = ({index for index, _ in part[:4]} for part in (pairs, other_pairs))
    assert first.isdisjoint(second)  # of the same pass
