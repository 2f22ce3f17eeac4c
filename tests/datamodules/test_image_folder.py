import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import InMemoryImageFolder, StreamedImageFolder, folder_source
from datamodules.image_cache import warn_once
from tests.datamodules.damaged_files import in_a_process
from tests.datamodules.image_files import write_folder, write_image

CLASSES = {"ant": 6, "bee": 9}
REAL = os.environ.get("TRICKSTACK_DATA")


@pytest.fixture(autouse=True)
def _forget_warnings() -> None:
    warn_once.cache_clear()


def make(root: Path, **arguments: Any) -> InMemoryImageFolder:
    return InMemoryImageFolder(root.name, **{"data_dir": str(root.parent), "batch_size": 2, **arguments})


def levels(data: InMemoryImageFolder, part: str) -> list[int]:
    """The images of a part, each by the level that all its pixels have."""
    return data.sets[part].images[:, 0, 0, 0].tolist()


def test_parts_with_folders_hold_their_images(tmp_path: Path) -> None:
    data = make(write_folder(tmp_path / "d", {"train": CLASSES, "val": CLASSES, "test": CLASSES}))
    data.setup()
    assert (data.class_names, data.num_classes, data.image_shape) == (("ant", "bee"), 2, (3, 4, 5))
    # write_folder numbers the levels in its own order: train, val, test
    assert sorted(levels(data, "train")) == list(range(1, 16))
    assert levels(data, "val") == list(range(16, 31)) and levels(data, "test") == list(range(31, 46))
    assert data.sets["test"].targets.tolist() == [0] * 6 + [1] * 9


def test_without_a_val_folder_validation_is_taken_from_train(tmp_path: Path) -> None:
    data = make(write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES}), val_size=5)
    data.setup()
    assert len(levels(data, "val")) == 5 and levels(data, "test") == list(range(16, 31))
    assert sorted(levels(data, "train") + levels(data, "val")) == list(range(1, 16))


def test_a_folder_of_classes_is_split(tmp_path: Path) -> None:
    data = make(write_folder(tmp_path / "d", {".": CLASSES}), val_size=3, test_size=0.4, split_seed=2)
    data.setup()
    assert {name: len(part) for name, part in data.sets.items()} == {"train": 6, "val": 3, "test": 6}
    assert sorted(level for name in data.sets for level in levels(data, name)) == list(range(1, 16))


def test_training_images_can_be_fewer_and_the_rest_is_unlabeled(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    data = make(root, val_size=3, labels_per_class=2)
    data.setup()
    assert data.sets["train"].targets.bincount().tolist() == [2, 2]
    seen = [level for batch in data.unlabeled_dataloader() for level in batch[:, 0, 0, 0].tolist()]
    assert sorted(seen + levels(data, "train") + levels(data, "val")) == list(range(1, 16))


def test_a_fraction_of_the_training_images_is_that_of_each_class(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "val": CLASSES, "test": CLASSES})
    whole, third = make(root), make(root, train_fraction=1 / 3)
    whole.setup(), third.setup()
    assert third.sets["train"].targets.bincount().tolist() == [2, 3]
    assert set(levels(third, "train")) < set(levels(whole, "train"))
    assert levels(third, "test") == levels(whole, "test")


def test_images_are_decoded_once_and_again_when_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    decode = folder_source.decode_files
    monkeypatch.setattr(folder_source, "decode_files", lambda *given: calls.append(1) or decode(*given))
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    first = make(root).fingerprint()
    data = make(root)
    data.setup()
    assert data.fingerprint() == first and calls == [1]
    write_image(root / "test" / "ant" / "000.png", np.full((4, 5, 3), 200, dtype=np.uint8))
    changed = make(root)
    assert changed.fingerprint() != first
    changed.setup()
    assert levels(changed, "test")[0] == 200 and calls == [1, 1]


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    one, other = (write_folder(tmp_path / name / "d", {"train": CLASSES, "test": CLASSES}) for name in "ab")
    expected = make(one).fingerprint()
    assert make(other).fingerprint() == expected
    assert make(other, train_size=5, batch_size=1).fingerprint() == expected
    (other / "test" / "ant").rename(other / "test" / "aunt")
    (other / "train" / "ant").rename(other / "train" / "aunt")
    assert make(other).fingerprint() != expected


def test_images_of_several_sizes_are_refused_with_two_of_them(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    write_image(root / "train" / "bee" / "001.png", np.zeros((7, 9, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"train/ant/000\.png has 5 x 4 .*, train/bee/001\.png has 9 x 7 .*image_size"):
        make(root).setup()


def test_images_of_several_sizes_become_squares(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    write_image(root / "test" / "ant" / "000.png", np.zeros((7, 9, 3), dtype=np.uint8))
    data = make(root, image_size=4, channels=1)
    data.setup()
    assert data.image_shape == (1, 4, 4) and levels(data, "test")[:2] == [0, 17]


def break_files(root: Path) -> None:
    (root / "train" / "ant" / "000.png").write_bytes(b"")
    (root / "test" / "bee" / "004.png").write_text("not found")


def test_broken_images_are_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    break_files(root)
    with pytest.raises(ValueError, match=r"2 of 30 images .*ant/000\.png cannot .*bee/004\.png cannot .*broken='skip'"):
        make(root).setup()


def test_broken_images_are_left_out_and_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    break_files(root)
    for _ in range(2):  # decoded, and from the cache
        with caplog.at_level(logging.WARNING):
            data = make(root, broken="skip", val_size=3)
            data.setup()
        assert len(data.sets["train"]) == 11
        assert levels(data, "test") == [level for level in range(16, 31) if level != 26]
        assert data.sets["test"].targets.tolist() == [0] * 6 + [1] * 8
    assert caplog.messages == [
        f"2 of 30 images of {root} are broken and left out: train/ant/000.png, test/bee/004.png."
    ]


def test_a_png_with_one_byte_changed_is_left_out_or_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    for place in ("train/ant/002.png", "test/bee/001.png"):
        content = bytearray((root / place).read_bytes())
        content[-20] ^= 0xFF  # in the image data
        (root / place).write_bytes(content)
    counts = in_a_process(count_without_broken, str(root))
    assert counts == {"train": 11, "val": 3, "test": 14}
    with pytest.raises(ValueError, match=r"2 of 30 images .*ant/002\.png cannot be decoded: the checksum of its chunk"):
        make(root).setup()


def count_without_broken(root: str) -> dict[str, int]:
    data = make(Path(root), broken="skip", val_size=3)
    data.setup()
    return {name: len(part) for name, part in data.sets.items()}


def test_a_folder_of_broken_images_alone_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": {"ant": 1}, "test": {"ant": 1}})
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 of 2 images of .* are broken"):
        make(root, broken="skip").setup()


def test_files_that_change_while_they_are_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    decode = folder_source.decode_files

    def unpacking(*given: Any) -> Any:
        write_image(root / "train" / "ant" / "new.png")
        return decode(*given)

    monkeypatch.setattr(folder_source, "decode_files", unpacking)
    with pytest.raises(ValueError, match="changed while they were read"):
        make(root).setup()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 4}, "channels=4 must be 3 for RGB or 1 for grey"),
        ({"image_size": 0}, "image_size=0 must be at least 1"),
        ({"broken": "ignore"}, "broken='ignore' must be 'error' or 'skip'"),
        ({"val_size": 1.5}, r"val_size=1\.5 must be a number of images, from 1, or a share between 0 and 1"),
        ({"train_fraction": 0.0}, r"train_fraction=0\.0 must be above 0 and at most 1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "d", **arguments)


def test_a_size_of_a_part_that_has_a_folder_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "val": CLASSES, "test": CLASSES})
    with pytest.raises(ValueError, match="val_size=3, but there is a folder val"):
        make(root, val_size=3).setup()


def test_labels_out_of_range_are_refused(tmp_path: Path) -> None:
    data = make(write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES}))
    load = data.load

    def mislabeled() -> Any:
        source = load()
        source.targets[-1] = 2
        return source

    data.load = mislabeled  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"1 test label\(s\) are out of range, the first is 2\. .* from 0 to 1"):
        data.setup()


@pytest.mark.skipif(REAL is None, reason="TRICKSTACK_DATA does not name a folder with cifar10_jpeg")
def test_real_images_are_those_of_pillow_and_split_evenly() -> None:
    data = InMemoryImageFolder("cifar10_jpeg", val_size=5000, train_size=5000)
    data.setup()
    assert {name: part.targets.bincount().tolist() for name, part in data.sets.items()} == {
        "train": [500] * 10,
        "val": [500] * 10,
        "test": [1000] * 10,
    }
    files = sorted(Path(REAL, "cifar10_jpeg", "test", "cat").iterdir())[:50]
    theirs = torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in files])
    first = data.class_names.index("cat") * 1000
    assert (data.sets["test"].images[first : first + 50].int() - theirs.int()).abs().max() <= 2


@pytest.mark.parametrize("kind", [InMemoryImageFolder, StreamedImageFolder])
def test_training_images_are_counted_without_reading_one(kind: Any, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", {"train": CLASSES, "test": CLASSES})
    for path in root.rglob("*.*"):
        if path.is_file():
            path.write_bytes(b"no image")
    targets = kind(str(root), val_size=5, train_fraction=0.5).known_training_targets()
    assert targets is not None
    assert targets.bincount().tolist() == [2, 3]
    with pytest.raises(ValueError, match="val_size=15 leaves no training image of 15"):
        kind(str(root), val_size=15).known_training_targets()
