import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torchvision.transforms import v2

from datamodules import ImageNet, InMemoryImageFolder, StreamedImageFolder
from datamodules.image_cache import warn_once
from datamodules.images import channel_statistics
from tests.datamodules.image_files import smooth_pixels, write_folder, write_image

CLASSES = {"ant": 6, "bee": 12}


@pytest.fixture(autouse=True)
def _forget_warnings() -> None:
    warn_once.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 training and 18 test images, each a picture of its own."""
    root = tmp_path_factory.mktemp("images") / "d"
    for seed, (part, name, number) in enumerate(
        (part, name, number) for part in ("train", "test") for name, count in CLASSES.items() for number in range(count)
    ):
        write_image(root / part / name / f"{number:02}.png", smooth_pixels(20 + seed % 3, 30, seed))
    return root


def make(root: Path, processes: int = 1, rank: int = 0, seed: int = 0, **arguments: Any) -> StreamedImageFolder:
    torch.manual_seed(seed)
    settings = {"image_size": 12, "resize_to": 16, "num_workers": 0, "val_size": 4, "batch_size": 2, **arguments}
    data = StreamedImageFolder(root.name, data_dir=str(root.parent), **settings)
    strategy = SimpleNamespace(root_device=torch.device("cpu"), broadcast=lambda seed: seed)
    data.trainer = SimpleNamespace(world_size=processes, global_rank=rank, strategy=strategy)
    data.setup()
    return data


def epoch_of(data: StreamedImageFolder, epoch: int = 0) -> tuple[Tensor, Tensor]:
    """All training images and targets of an epoch, in order."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    images, targets = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(targets)


def crop() -> v2.Transform:
    return v2.RandomResizedCrop(12, antialias=True)


def test_evaluation_images_are_those_of_the_folder_in_memory(folder: Path) -> None:
    streamed = make(folder, resize_to=12)
    kept = InMemoryImageFolder(folder.name, data_dir=str(folder.parent), image_size=12, val_size=4)
    kept.setup()
    assert streamed.class_names == kept.class_names and streamed.image_shape == kept.image_shape
    for name in ("val", "test"):
        images, targets = zip(*getattr(streamed, f"{name}_dataloader")(), strict=True)
        assert torch.equal(torch.cat(images), kept.sets[name].images)
        assert torch.equal(torch.cat(targets), kept.sets[name].targets)


def test_training_images_come_in_the_order_of_the_folder_in_memory(folder: Path) -> None:
    torch.manual_seed(3)
    kept = InMemoryImageFolder(folder.name, data_dir=str(folder.parent), image_size=12, val_size=4, batch_size=2)
    kept.setup()
    loader = kept.train_dataloader()
    loader.sampler.set_epoch(1)
    expected = torch.cat([images for images, _ in loader])
    assert torch.equal(epoch_of(make(folder, seed=3, resize_to=12), epoch=1)[0], expected)


def test_the_number_of_workers_changes_no_image(folder: Path) -> None:
    alone = epoch_of(make(folder, train_geometry=crop(), batch_size=7))
    for workers in (1, 2):
        images, targets = epoch_of(make(folder, train_geometry=crop(), batch_size=7, num_workers=workers))
        assert torch.equal(images, alone[0]) and torch.equal(targets, alone[1])


def test_workers_that_persist_go_on_to_the_next_epoch(folder: Path) -> None:
    data = make(folder, train_geometry=crop(), num_workers=2)
    loader = data.train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        images = torch.cat([images for images, _ in loader])
        assert torch.equal(images, epoch_of(make(folder, train_geometry=crop()), epoch)[0])


def test_images_are_a_function_of_seed_and_epoch_alone(folder: Path) -> None:
    first = epoch_of(make(folder, train_geometry=crop()))[0]
    again = make(folder, train_geometry=crop())
    torch.manual_seed(99)
    assert torch.equal(epoch_of(again)[0], first)
    others = [epoch_of(again, 1)[0], epoch_of(make(folder, seed=1, train_geometry=crop()))[0]]
    assert not any(torch.equal(other, first) for other in others)


def test_reading_draws_nothing_from_the_global_generator(folder: Path) -> None:
    data = make(folder, train_geometry=crop())
    before = torch.get_rng_state()
    epoch_of(data)
    assert torch.equal(torch.get_rng_state(), before)


def test_two_processes_see_the_images_of_one(folder: Path) -> None:
    whole = epoch_of(make(folder, train_geometry=crop()))[0]
    shares = [epoch_of(make(folder, processes=2, rank=rank, train_geometry=crop(), batch_size=1))[0] for rank in (0, 1)]
    assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), whole)


def test_an_image_that_is_drawn_twice_is_cut_in_two_ways(folder: Path) -> None:
    images, targets = epoch_of(make(folder, train_geometry=crop(), class_balanced=True, labels_per_class=2))
    assert targets.bincount().tolist() == [2, 2]
    images, targets = epoch_of(make(folder, train_geometry=crop(), class_balanced=True))
    assert targets.bincount().tolist() == [7, 7]  # of 5 ants and 9 bees
    assert len(images.unique(dim=0)) == 14


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluation_counts_every_image_once_on_any_number_of_processes(folder: Path, processes: int) -> None:
    seen = []
    for rank in range(processes):
        seen += [images for images, _ in make(folder, processes, rank, eval_batch_size=4).test_dataloader()]
    assert len(torch.cat(seen)) == len(torch.cat(seen).unique(dim=0)) == 18


def test_unlabeled_images_come_alone_and_are_prepared_as_the_others(folder: Path) -> None:
    data = make(folder, labels_per_class=2, train_geometry=crop())
    loader = data.unlabeled_dataloader(batch_size=5)
    batches = list(loader)
    assert [batch.shape for batch in batches] == [(5, 3, 12, 12)] * 2  # 18 less 4 for validation and 4 labeled
    data.trainer = None
    assert torch.equal(data.on_after_batch_transfer(batches[0], 0), batches[0] / 255)


def test_normalization_is_by_the_training_images(folder: Path) -> None:
    data = make(folder, normalize=True)
    mean, sd = data._statistics
    expected = channel_statistics(torch.stack([data.sets["train"][index][0] for index in range(14)]))
    assert torch.equal(mean, expected[0]) and torch.equal(sd, expected[1])


class Recorder(L.LightningModule):
    """Keeps the sum of every training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(float(batch[0].double().sum()))
        return self.weight * batch[0].mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(root: Path, ckpt_path: Path | None = None, **limits: Any) -> tuple[Recorder, L.Trainer]:
    torch.manual_seed(5)
    data = StreamedImageFolder(
        root.name,
        data_dir=str(root.parent),
        image_size=12,
        resize_to=16,
        num_workers=1,
        val_size=4,
        batch_size=4,
        train_geometry=crop(),
    )
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    module, trainer = Recorder(), L.Trainer(accelerator="cpu", limit_val_batches=0, **quiet, **limits)
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return module, trainer


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_an_interrupted_training_goes_on_with_the_same_images(folder: Path, tmp_path: Path) -> None:
    straight, _ = fit(folder, max_epochs=3)
    assert len(set(straight.seen)) == 9
    _, trainer = fit(folder, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, _ = fit(folder, tmp_path / "last.ckpt", max_epochs=3)
    assert resumed.seen == straight.seen[3:]


def test_a_broken_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    (root / "test" / "bee" / "001.png").write_bytes(b"")
    for workers in (0, 1):
        with pytest.raises(ValueError, match=r"test/bee/001\.png cannot be decoded"):
            list(make(root, num_workers=workers).test_dataloader())


def test_broken_images_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    (root / "test" / "bee" / "001.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert [len(make(root, broken="skip").sets["test"]) for _ in range(2)] == [17, 17]
    assert caplog.messages == [f"1 of 36 images of {root} are broken and left out: test/bee/001.png."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize_to": 11}, "resize_to=11 must be at least image_size=12"),
        ({"num_workers": -1}, "num_workers=-1 must be at least 0"),
        ({"train_geometry": v2.Resize(16)}, r"train_geometry Resize must make uint8 images \(3, H, W\) of one size"),
        ({"train_geometry": v2.ToDtype(torch.float32)}, r"train_geometry ToDtype must make uint8 images"),
    ],
)
def test_arguments_that_cannot_be_are_refused(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(folder, **arguments)


def test_the_fingerprint_tells_names_and_sizes(folder: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    expected = make(root).fingerprint()
    assert len(expected) == 64 and make(root, train_size=3, batch_size=1).fingerprint() == expected
    (root / "test" / "bee" / "001.png").unlink()
    assert make(root).fingerprint() != expected


# --- ImageNet


def imagenet(root: Path, **arguments: Any) -> ImageNet:
    return ImageNet(root.name, data_dir=str(root.parent), **arguments)


def test_the_labeled_validation_images_of_imagenet_are_the_test_images(tmp_path: Path) -> None:
    data = imagenet(write_folder(tmp_path / "d", {"train": CLASSES, "val": {"ant": 1, "bee": 2}}), val_size=4)
    data.setup()
    assert {name: len(part) for name, part in data.sets.items()} == {"train": 14, "val": 4, "test": 3}


def test_imagenet_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*d/train\. Put ILSVRC2012_img_train\.tar and .*image-net"):
        imagenet(tmp_path / "d").fingerprint()


def test_imagenet_that_is_not_unpacked_says_how_to(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES})
    (root / "ILSVRC2012_img_val.tar").write_bytes(b"")
    with pytest.raises(
        FileNotFoundError, match=r"the archive .*val\.tar\. torchvision\.datasets\.ImageNet\('.*unpacks"
    ):
        imagenet(root).setup()


def test_a_folder_in_place_of_an_archive_of_imagenet(tmp_path: Path) -> None:
    (tmp_path / "d" / "ILSVRC2012_img_train.tar").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"train\.tar is a folder, but the archive is meant\. Rename it to .*d/train"):
        imagenet(tmp_path / "d").setup()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ImageNet", {"folder": "imagenet", "val_size": 10_000, "image_size": 224, "train_geometry": None}),
        ("StreamedImageFolder", {"folder": "d", "val_size": None, "broken": "error"}),
        ("InMemoryImageFolder", {"folder": "d", "val_size": None, "labels_per_class": None}),
        ("CIFAR10", {"val_size": 5000, "download": False, "transforms": []}),
        ("CIFAR100", {"val_size": 5000, "class_balanced": False}),
        ("FashionMNIST", {"data_dir": None, "train_fraction": 1.0}),
    ],
)
def test_all_data_modules_are_built_from_yaml(name: str, expected: dict[str, Any]) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    given = {"folder": "d"} if expected.get("folder") == "d" or "labels_per_class" in expected else {}
    parsed = parser.parse_object({"data": {"class_path": f"datamodules.{name}", "init_args": given}})
    arguments = parsed.as_dict()["data"]["init_args"]
    assert {key: arguments[key] for key in expected} == expected
    assert type(parser.instantiate(parsed).data).__name__ == name
