"""The published data sets, on small files in their formats."""

import gzip
import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from datamodules import CIFAR10, CIFAR100, FashionMNIST

COUNTS = {"train": 40, "test": 20}


def write_pickle(path: Path, content: dict[str, Any]) -> str:
    """Write a file as CIFAR's are, and return its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def pixels(part: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(COUNTS[part]).integers(0, 256, (COUNTS[part], *shape), dtype=np.uint8)


def labels(part: str) -> list[int]:
    return [number % 10 for number in range(COUNTS[part])]


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Write CIFAR-10 or CIFAR-100 with few images, and let torchvision expect their checksums."""
    reader = getattr(torchvision.datasets, name)
    key, names = ("labels", "label_names") if name == "CIFAR10" else ("fine_labels", "fine_label_names")
    lists = {}
    for part in COUNTS:
        content = {"data": pixels(part, (3 * 32 * 32,)), key: labels(part)}
        lists[part] = [[part, write_pickle(root / reader.base_folder / part, content)]]
    classes = 10 if name == "CIFAR10" else 100
    checksum = write_pickle(root / reader.base_folder / "meta", {names: [f"class {n}" for n in range(classes)]})
    monkeypatch.setattr(reader, "train_list", lists["train"])
    monkeypatch.setattr(reader, "test_list", lists["test"])
    monkeypatch.setattr(reader, "meta", {"filename": "meta", "key": names, "md5": checksum})


def write_fashion(root: Path) -> None:
    """Write FashionMNIST with few images, in the IDX format."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, prefix in (("train", "train"), ("test", "t10k")):
        count = COUNTS[part]
        images = struct.pack(">IIII", 0x803, count, 28, 28) + pixels(part, (28, 28)).tobytes()
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + bytes(labels(part)))


@pytest.mark.parametrize(("kind", "classes"), [(CIFAR10, 10), (CIFAR100, 100)])
def test_images_of_cifar_are_those_of_its_files(
    kind: type[CIFAR10], classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(tmp_path, monkeypatch, kind.__name__)
    data = kind(data_dir=str(tmp_path), val_size=10)
    data.setup()
    assert data.num_classes == classes and data.class_names[3] == "class 3"
    assert {name: len(part) for name, part in data.sets.items()} == {"train": 30, "val": 10, "test": 20}
    assert torch.equal(data.sets["test"].images, torch.from_numpy(pixels("test", (3, 32, 32))))
    assert data.sets["test"].targets.tolist() == labels("test")
    assert data.sets["train"].images.shape[1:] == data.image_shape
    assert len(data.fingerprint()) == 64


def test_images_of_fashion_mnist_are_those_of_its_files(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    data = FashionMNIST(data_dir=str(tmp_path), val_size=10, labels_per_class=2, batch_size=10)
    data.setup()
    assert data.image_shape == (1, 28, 28) and data.class_names[0] == "T-shirt/top"
    assert torch.equal(data.sets["test"].images, torch.from_numpy(pixels("test", (1, 28, 28))))
    assert data.sets["train"].targets.bincount().tolist() == [2] * 10
    assert [len(batch) for batch in data.unlabeled_dataloader()] == [10]  # 40 less 10 for validation and 20 labeled


def test_images_are_found_below_the_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion(tmp_path)
    monkeypatch.setenv("TRICKSTACK_DATA", str(tmp_path))
    assert len(FashionMNIST().load()) == 60


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100, FashionMNIST])
def test_missing_files_are_refused_with_how_to_get_them(kind: type[CIFAR10], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        kind(data_dir=str(tmp_path)).setup()
    message = str(raised.value)
    assert message.startswith(f"{kind.__name__} is not in {tmp_path / kind.folder}, or not whole. Set download to true")
    assert kind.url in message and "TRICKSTACK_DATA" in message


def test_an_archive_that_is_not_unpacked_is_told(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(FileNotFoundError, match=r"not unpacked in .* Set download to true, which unpacks the archive"):
        CIFAR10(data_dir=str(tmp_path)).fingerprint()


def test_a_folder_in_place_of_the_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").mkdir()
    with pytest.raises(
        ValueError, match=r"cifar-10-python\.tar\.gz is a folder, but the archive from https://.* meant"
    ):
        CIFAR10(data_dir=str(tmp_path), download=True).prepare_data()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").write_bytes(b"")
    with pytest.raises(
        ValueError, match="cifar-10-batches-py is a file, but the folder that the archive holds is meant"
    ):
        CIFAR10(data_dir=str(tmp_path)).setup()


def test_a_download_that_fails_says_where_to_put_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(self: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", offline)
    with pytest.raises(FileNotFoundError, match=r"could not be got from .* \(Network is unreachable\)\. Put its files"):
        CIFAR10(data_dir=str(tmp_path), download=True).prepare_data()
