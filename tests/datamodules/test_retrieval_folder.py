"""Folders of identities."""

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import RetrievalFolder
from datamodules.retrieval_folder import find_identities
from tests.datamodules.image_files import write_folder, write_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Alphabets with characters: 8 of A and B to train on, 3 of C, each of four drawings, and one of two."""
    alphabets = {"A": [f"a{number}" for number in range(5)], "B": ["b0", "b1", "b2"], "C": ["c0", "c1", "c2"]}
    counts = {name: dict.fromkeys(characters, 4) for name, characters in alphabets.items()}
    counts["C"]["c2"] = 2
    return write_folder(tmp_path / "data", counts)


def folder(root: Path, **arguments: Any) -> RetrievalFolder:
    settings = {"train": ["B", "A"], "test": ["C"], "channels": 1, "identities_per_batch": 2, "images_per_identity": 2}
    return RetrievalFolder(str(root), **{**settings, **arguments})


def set_up(root: Path, **arguments: Any) -> RetrievalFolder:
    data = folder(root, **arguments)
    data.setup()
    return data


def test_identities_are_folders_in_the_order_of_their_paths(root: Path) -> None:
    files = find_identities(root, ["B", "A"])
    assert files.class_names == ("A/a0", "A/a1", "A/a2", "A/a3", "A/a4", "B/b0", "B/b1", "B/b2")
    assert files.names[:5] == ["A/a0/000.png", "A/a0/001.png", "A/a0/002.png", "A/a0/003.png", "A/a1/000.png"]
    assert files.targets.tolist() == [identity for identity in range(8) for _ in range(4)]
    assert find_identities(root, ["A", "B"]).names == files.names


def test_no_identity_of_validation_or_test_is_trained_on(root: Path) -> None:
    data = set_up(root, val_size=2)
    assert len(data.class_names) == 6 and set(data.class_names) < set(find_identities(root, ["A", "B"]).class_names)
    assert data.sets["train"].targets.tolist() == [label for label in range(6) for _ in range(4)]
    val, _, roles = data.sets["val"].targets.unbind(1)
    assert len(val.unique()) == 2 and (roles == 3).all() and len(val) == 8
    tested = data.name_identities(data.sets["test"].targets[:, 0].unique().tolist())
    assert tested == ("C/c0", "C/c1", "C/c2")
    pixels = torch.cat([data.sets[name].images.flatten(1)[:, 0] for name in ("train", "val", "test")])
    assert len(pixels.unique()) == len(pixels) == 42  # every image has a level of its own


def test_labels_name_the_images_of_their_identity(root: Path) -> None:
    data = set_up(root)
    files = data.source.found
    everything = data.load()
    for image, label in zip(data.sets["train"].images, data.sets["train"].targets, strict=True):
        place = int((everything.images == image).flatten(1).all(1).nonzero())
        assert files.names[place].startswith(f"{data.class_names[label]}/")


def test_queries_of_each_identity_are_not_in_the_gallery(root: Path) -> None:
    identities, _, roles = set_up(root, queries_per_identity=3).sets["test"].targets.unbind(1)
    assert identities[roles == 1].bincount()[-3:].tolist() == [3, 3, 1]
    assert identities[roles == 2].bincount()[-3:].tolist() == [1, 1, 1]
    assert (set_up(root).sets["test"].targets[:, 2] == 3).all()


def test_what_is_decoded_is_kept_and_both_parts_belong_to_the_fingerprint(root: Path) -> None:
    first, second = folder(root), folder(root)
    assert first.fingerprint() == second.fingerprint() != folder(root, test=["B"], train=["A"]).fingerprint()
    assert list((root.parent / ".trickstack").glob("*.safetensors"))
    write_image(root / "C" / "c0" / "new.png")
    with pytest.raises(ValueError, match="images differ in size"):
        folder(root).load()


@pytest.mark.parametrize(
    "arguments, text",
    [
        (
            {"test": ["C", "B"]},
            "3 identities are both in training or validation and in the test: 'B/b0', 'B/b1', 'B/b2'",
        ),
        ({"train": ["A/a0", "A/a1"], "val_size": 2}, "val_size=2 leaves none of 2 identities"),
    ],
)
def test_parts_that_do_not_fit_are_refused(root: Path, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        set_up(root, **arguments)


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"train": []}, "train names no folder"),
        ({"test": []}, "test names no folder"),
        ({"queries_per_identity": 0}, "queries_per_identity=0"),
        ({"val_size": 0}, "val_size=0"),
        ({"val_size": 1.5}, "val_size=1.5"),
        ({"split_seed": -1}, "split_seed=-1"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        folder(tmp_path, **arguments)


def test_a_folder_that_is_not_there_is_named_with_those_that_are(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*/D\. .* has A, B, C"):
        set_up(root, test=["D"])
    with pytest.raises(FileNotFoundError, match="data_dir or TRICKSTACK_DATA"):
        set_up(root / "none")


def test_a_folder_without_images_is_refused(root: Path) -> None:
    (root / "D" / "d0").mkdir(parents=True)
    with pytest.raises(ValueError, match="D holds no images"):
        set_up(root, test=["D"])
