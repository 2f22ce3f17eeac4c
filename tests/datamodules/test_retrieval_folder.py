"""Folders of identities."""

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import RetrievalFolder
from datamodules.retrieval_files import IdentityFiles
from tests.datamodules.image_files import write_folder, write_image

NAMES = ("a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2", "c0", "c1", "c2")


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


def found(root: Path, train: list[str]) -> IdentityFiles:
    return folder(root, train=train).find_files()


def set_up(root: Path, **arguments: Any) -> RetrievalFolder:
    data = folder(root, **arguments)
    data.setup()
    return data


def test_identities_are_folders_in_the_order_of_their_paths(root: Path) -> None:
    files = found(root, ["B", "A"])
    assert files.class_names == tuple(f"{name[0].upper()}/{name}" for name in NAMES)
    assert files.names[:5] == ["A/a0/000.png", "A/a0/001.png", "A/a0/002.png", "A/a0/003.png", "A/a1/000.png"]
    assert files.targets.tolist() == [identity for identity in range(10) for _ in range(4)] + [10, 10]
    assert found(root, ["A", "B"]).names == files.names


def test_no_identity_of_validation_or_test_is_trained_on(root: Path) -> None:
    data = set_up(root, val_size=2)
    assert len(data.class_names) == 6 and set(data.class_names) < set(found(root, ["A", "B"]).class_names[:8])
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
    assert folder(root, test=["A"], train=["C", "B"]).fingerprint() != first.fingerprint()
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
        ({"val_size": -1}, "val_size=-1"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"in_memory": False}, "in_memory=False needs image_size"),
        ({"image_size": (8, 0)}, "image_size="),
        ({"query_list": "query.txt"}, "there is one of query_list and gallery_list, query.txt"),
        ({"query_list": "query.txt", "gallery_list": "gallery.txt"}, "both test and lists"),
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


def test_without_validation_all_identities_are_trained_on_and_there_is_no_loader(root: Path) -> None:
    data = set_up(root, val_size=0)
    assert len(data.class_names) == 8 and data.val_dataloader() == []


def test_images_become_rectangles_and_are_the_same_from_workers(root: Path) -> None:
    settings = {"image_size": (6, 3), "val_size": 2, "eval_batch_size": 4, "normalize": True}
    held, streamed = set_up(root, **settings), set_up(root, **settings, in_memory=False, num_workers=0)
    assert held.image_shape == streamed.image_shape == (1, 6, 3)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        batches = list(zip(getattr(held, name)(), getattr(streamed, name)(), strict=True))
        assert batches
        for first, second in batches:
            assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert torch.equal(held.measured_images(), streamed.measured_images())
    assert held.fingerprint() != streamed.fingerprint()


def test_broken_images_are_left_out_with_their_cameras_and_parts(root: Path) -> None:
    (root / "A" / "a0" / "000.png").write_bytes(b"no image")
    data = set_up(root, broken="skip", val_size=0)
    assert len(data.files.names) == len(data.files.cameras) == 41 and "A/a0/000.png" not in data.files.names
    assert len(data.sets["train"]) == 31 and len(data.sets["test"]) == 10


def write_lists(root: Path, query: list[str], gallery: list[str]) -> dict[str, Any]:
    for name, paths in (("query.txt", query), ("gallery.txt", gallery)):
        (root / name).write_text("\n".join(paths) + "\n")
    return {"test": [], "query_list": "query.txt", "gallery_list": "gallery.txt"}


def test_lists_say_what_is_a_query_and_what_is_ranked(root: Path) -> None:
    lists = write_lists(root, ["C/c1/001.png", "C/c0/000.png"], ["C/c0/003.png", "C/c1/001.png", "C/c1/002.png"])
    data = set_up(root, **lists)
    names = [data.files.names[place] for place in data.files.given["query"].tolist()]
    assert names == ["C/c0/000.png", "C/c1/001.png"]
    identities, _, roles = data.sets["test"].targets.unbind(1)
    assert data.name_identities(identities.tolist()) == ("C/c0", "C/c0", "C/c1", "C/c1")
    assert roles.tolist() == [1, 2, 3, 2]


def test_queries_without_a_right_image_are_counted_and_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    set_up(root, **write_lists(root, ["C/c0/000.png", "C/c1/001.png"], ["C/c0/001.png", "C/c2/000.png"]))
    assert "1 of 2 test queries have no right image in the gallery" in caplog.text


def test_lists_that_cannot_be_used_are_refused(root: Path) -> None:
    lists = write_lists(root, [f"C/c{number}/9.png" for number in range(6)] + ["C/c0/000.png"], ["C/c0/001.png"])
    text = r"6 of 7 files of .*query.txt are not there: C/c0/9.png, .*C/c4/9.png and 1 more"
    with pytest.raises(FileNotFoundError, match=text):
        set_up(root, **lists)
    with pytest.raises(FileNotFoundError, match=r"there is no list .*none.txt"):
        set_up(root, **{**lists, "query_list": "none.txt"})
    with pytest.raises(ValueError, match=r"gallery.txt names no file"):
        set_up(root, **write_lists(root, ["C/c0/000.png"], []))
    with pytest.raises(ValueError, match=r"query.txt names 1 file\(s\) twice"):
        set_up(root, **write_lists(root, ["C/c0/000.png"] * 2, ["C/c0/001.png"]))


def test_identities_with_too_few_images_are_named(root: Path) -> None:
    data = set_up(root, images_per_identity=5, val_size=0)
    with pytest.raises(ValueError, match=r"8 identities have fewer .*: A/a0, A/a1, A/a2, A/a3, A/a4 and 3 more"):
        data.train_dataloader()
