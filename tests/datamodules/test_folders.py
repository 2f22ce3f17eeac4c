import os
import re
from pathlib import Path

import pytest
import torch

from datamodules.folders import data_root, find_images
from tests.datamodules.image_files import write_folder, write_image

CLASSES = {"ant": 2, "bee": 3}


def test_images_come_by_part_class_and_name(tmp_path: Path) -> None:
    files = find_images(write_folder(tmp_path / "d", {"train": CLASSES, "val": CLASSES, "test": CLASSES}))
    assert files.class_names == ("ant", "bee")
    assert files.names[:5] == ["train/ant/000.png", "train/ant/001.png"] + [f"train/bee/00{n}.png" for n in range(3)]
    assert files.targets.tolist() == [0, 0, 1, 1, 1] * 3
    assert {part: indices.tolist() for part, indices in files.given.items()} == {
        "train": list(range(5)),
        "val": list(range(5, 10)),
        "test": list(range(10, 15)),
    }


def test_a_folder_of_classes_is_all_for_training(tmp_path: Path) -> None:
    files = find_images(write_folder(tmp_path / "d", {".": CLASSES}))
    assert files.names[0] == "ant/000.png" and list(files.given) == ["train"]


def test_hidden_folders_and_other_files_are_no_classes_and_images(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {".": CLASSES})
    (root / ".ipynb_checkpoints").mkdir()
    (root / "ant" / "notes.txt").write_text("")
    assert len(find_images(root)) == 5


def test_the_data_root_is_what_is_named_else_the_environment_else_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRICKSTACK_DATA", raising=False)
    assert data_root(None) == Path("data")
    monkeypatch.setenv("TRICKSTACK_DATA", "/of/environment")
    assert data_root(None) == Path("/of/environment")
    assert data_root("/named") == Path("/named")


def same_size(path: Path) -> None:
    """Replace a file by one of the same size and the same modification time."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        same_size,
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("999.png")),
        lambda path: write_image(path.with_name("new.png")),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    ],
    ids=["written", "removed", "renamed", "added", "grown"],
)
def test_every_change_of_a_file_changes_the_stamp(change, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {".": CLASSES})
    before = find_images(root).stamp()
    assert find_images(root).stamp() == before
    change(root / "bee" / "001.png")
    assert find_images(root).stamp() != before


def test_names_and_sizes_are_the_same_in_a_copy(tmp_path: Path) -> None:
    one, other = (write_folder(tmp_path / name, {".": CLASSES}) for name in "ab")
    assert find_images(one).names_and_sizes() == find_images(other).names_and_sizes()
    (other / "ant" / "000.png").rename(other / "ant" / "zzz.png")
    assert find_images(one).names_and_sizes() != find_images(other).names_and_sizes()


def test_files_can_be_left_out(tmp_path: Path) -> None:
    files = find_images(write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES}))
    left = files.without([1, 4, 5])
    assert left.names == [name for index, name in enumerate(files.names) if index not in (1, 4, 5)]
    assert left.targets.tolist() == [0, 1, 1, 0, 1, 1, 1]
    assert torch.equal(left.given["train"], torch.arange(3)) and torch.equal(left.given["test"], torch.arange(3, 7))


def test_a_class_without_an_intact_image_is_refused(tmp_path: Path) -> None:
    files = find_images(write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES}))
    with pytest.raises(ValueError, match="all images of class 'ant' for test are broken"):
        files.without([5, 6])


def refused(root: Path, error: type[Exception] = ValueError) -> str:
    with pytest.raises(error) as raised:
        find_images(root)
    return str(raised.value).replace(str(root.parent), "...")


def test_no_such_folder(tmp_path: Path) -> None:
    message = refused(tmp_path / "d", FileNotFoundError)
    assert message.startswith("there is no folder .../d. Put the images there") and "TRICKSTACK_DATA" in message


def test_an_archive_beside_the_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "d.tar.gz").write_bytes(b"")
    message = refused(tmp_path / "d", FileNotFoundError)
    assert message == "there is no folder .../d, but the archive .../d.tar.gz. Unpack it there."


def test_an_archive_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "d.zip").write_bytes(b"")
    assert refused(tmp_path / "d.zip").startswith(".../d.zip is a file, but a folder of images is meant. Unpack it")


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert refused(tmp_path / "d").startswith(".../d holds no images: it should have a folder for each class")


def test_folders_without_images(tmp_path: Path) -> None:
    (tmp_path / "d" / "ant").mkdir(parents=True)
    (tmp_path / "d" / "ant" / "a.txt").write_text("")
    assert refused(tmp_path / "d").startswith(".../d holds no images: none of its files ends with .jpg, ")


def test_an_empty_class(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": {"ant": 1, "bee": 0}})
    assert refused(root) == ".../d/test has no images of 'bee'. Add some, or remove the empty folder(s)."


def test_classes_that_differ_between_the_parts(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": {"ant": 1, "cow": 1}})
    assert refused(root) == (
        ".../d: the classes of train and test differ: 'bee' only in train and 'cow' only in test. "
        "Give each the same folders."
    )


@pytest.mark.parametrize(("part", "missing"), [("train", "test"), ("test", "train")])
def test_a_part_that_is_missing(part: str, missing: str, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {part: CLASSES, "val": CLASSES})
    there = " and ".join(sorted([part, "val"]))
    assert re.match(rf"\.\.\./d has a folder {there}, but no {missing}\. Add it", refused(root))
