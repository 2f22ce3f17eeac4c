"""Folders in the layout of Pascal VOC."""

import os
import re
from pathlib import Path

import pytest
import torch

from datamodules.detection import VOCFolder
from tests.datamodules.detection.box_folders import write_annotation, write_voc
from tests.datamodules.image_files import write_image

CAT = ("cat", (11, 5, 30, 24))
DOG = ("dog", (1, 1, 64, 48))
PARTS = {"train": {"a": [CAT, DOG], "b": []}, "val": {"c": [DOG]}, "test": {"d": [CAT]}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "pets", PARTS)


def make(root: Path, **arguments) -> VOCFolder:
    return VOCFolder(root.name, str(root.parent), **{"input_size": 64, "batch_size": 1} | arguments)


def read(root: Path, part: str = "train", **arguments):
    return make(root, **arguments).read_parts()[part]


def test_boxes_are_counted_from_one_and_include_their_last_pixel(root):
    train = read(root)
    assert train.boxes.tolist() == [[10, 4, 30, 24], [0, 0, 64, 48]]
    assert train.starts.tolist() == [0, 2, 2]
    assert train.labels.tolist() == [0, 1]


def test_boxes_counted_from_zero_stay_as_they_are(root):
    assert read(root, coordinates="zero_based").boxes[0].tolist() == [11, 5, 30, 24]


def test_classes_are_those_of_all_lists_sorted(root):
    data = make(root)
    data.setup()
    assert data.class_names == ("cat", "dog")
    assert data.num_classes == 2


def test_images_without_objects_are_kept(root):
    data = make(root, eval_batch_size=2)
    data.setup()
    images, targets = data.sets["train"].__getitems__([0, 1])
    assert images.shape == (2, 3, 64, 64)
    assert (targets["labels"] >= 0).sum(1).tolist() == [2, 0]


def test_difficult_objects_are_flagged(root):
    write_annotation(root, "a", [CAT, DOG], difficult=1)
    assert read(root).difficult.tolist() == [True, True]
    assert read(root, "val").difficult.tolist() == [False]


def test_boxes_without_area_are_dropped_and_said(root, caplog):
    write_annotation(root, "a", [CAT, ("dog", (9, 9, 9, 9)), ("dog", (9, 9, 8, 20)), ("dog", (65, 1, 70, 9))])
    train = read(root)
    assert len(train.boxes) == 1
    assert "train.txt: 3 box(es) without area inside the image dropped, in a.png." in caplog.text


def test_boxes_over_the_border_are_clipped_and_said(root, caplog):
    write_annotation(root, "a", [("cat", (-3, 2, 30, 60))])
    assert read(root).boxes.tolist() == [[0, 1, 30, 48]]
    assert "1 box(es) over the border clipped to the image, in a.png." in caplog.text


def test_nothing_is_said_of_boxes_that_are_right(root, caplog):
    read(root)
    assert caplog.text == ""


def test_lists_of_several_folders_are_put_together(tmp_path):
    for year in ("2007", "2012"):
        write_voc(tmp_path / "kit" / year, {"trainval": {f"{year}{n}": [CAT] for n in range(2)}})
    write_voc(tmp_path / "kit" / "2007", {"test": {"t": [CAT]}})
    data = make(
        tmp_path / "kit", train=["2007/trainval", "2012/trainval"], val=[], test=["2007/test"], val_fraction=0.25
    )
    data.setup()
    assert {name: len(part) for name, part in data.sets.items()} == {"train": 3, "val": 1, "test": 1}


def test_a_list_with_flags_behind_the_names_is_read(root):
    (root / "ImageSets/Main/train.txt").write_text("a  1\nb -1\n\n")
    assert len(read(root)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>", r"a\.xml is no XML: no element found"),
        ("<annotation></annotation>", r"a\.xml names no image: it has no <filename>"),
        (
            "<annotation><filename>x.png</filename></annotation>",
            r"a\.xml names the image .*x\.png, which is missing",
        ),
        ("<annotation><filename>a.png</filename></annotation>", r"a\.xml gives no <size> of its image"),
        (
            "<annotation><filename>a.png</filename><object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>"
            "</annotation>",
            r"a\.xml has a size, a <bndbox> or a <difficult> that is missing or no number",
        ),
    ],
)
def test_annotations_that_cannot_be_are_refused(root, content, message):
    (root / "Annotations/a.xml").write_text(content)
    with pytest.raises(ValueError, match=message):
        read(root)


@pytest.mark.parametrize("edge", ["nan", "inf"])
def test_a_box_with_an_edge_that_is_no_finite_number_is_refused(root, edge):
    write_annotation(root, "a", [("cat", (1, 1, float(edge), 20))])
    with pytest.raises(ValueError, match=r"a\.xml has a <bndbox> with an edge that is no finite number"):
        read(root)


def test_an_object_without_a_class_is_refused(root):
    write_annotation(root, "a", [("", (1, 1, 20, 20))])
    with pytest.raises(ValueError, match=r"a\.xml has an <object> without a class: its <name> is missing or empty"):
        read(root)


def test_an_annotation_that_is_a_folder_is_refused(root):
    (root / "Annotations/a.xml").unlink()
    (root / "Annotations/a.xml").mkdir()
    with pytest.raises(ValueError, match=r"a\.xml cannot be read: Is a directory"):
        read(root)


def test_a_list_that_is_no_text_is_refused_with_its_name(root):
    (root / "ImageSets/Main/train.txt").write_bytes(b"\xff\xfea\n")
    with pytest.raises(ValueError, match=r"train\.txt is no text in UTF-8: invalid start byte at byte 0"):
        read(root)


def test_all_wrong_annotations_are_said_at_once(root):
    for stem in "ab":
        (root / f"Annotations/{stem}.xml").unlink()
    with pytest.raises(ValueError, match=r"train\.txt: .*a\.xml is missing\. .*b\.xml is missing\."):
        read(root)


def test_unknown_classes_are_listed(root):
    with pytest.raises(ValueError, match=r"objects of unknown class\(es\) dog, in a\.xml, c\.xml\. Known are cat;"):
        read(root, class_names=["cat"])


def test_a_part_whose_boxes_all_have_no_area_is_refused(root):
    write_annotation(root, "d", [("cat", (5, 5, 5, 5))])
    with pytest.raises(ValueError, match=r"test\.txt: of 1 box\(es\) none has an area inside its image"):
        read(root)


def test_a_list_without_images_is_refused(root):
    (root / "ImageSets/Main/val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.txt names no images"):
        read(root)


def test_a_list_that_is_missing_is_said(root):
    with pytest.raises(FileNotFoundError, match=r"there is no list of images .*other\.txt"):
        read(root, test=["other"])


def test_an_image_in_two_parts_is_refused(root):
    with pytest.raises(ValueError, match=r"a\.png is in train and in test\. Scores on it would be wrong"):
        make(root, test=["train"]).setup()


def test_an_image_of_another_size_than_its_annotations_is_refused(root):
    write_image(root / "JPEGImages/a.png")
    with pytest.raises(ValueError, match=r"a\.png has 32×24 pixels, but its boxes are for 64×48"):
        make(root).setup()


def test_unknown_coordinates_are_refused(root):
    with pytest.raises(ValueError, match=re.escape("coordinates is 'one'; it must be 'one_based' or 'zero_based'")):
        make(root, coordinates="one")


def test_the_fingerprint_is_of_the_content(root, tmp_path):
    first = make(root).fingerprint()
    assert make(write_voc(tmp_path / "copy", PARTS)).fingerprint() == first
    write_annotation(root, "a", [CAT])
    assert make(root).fingerprint() != first


@pytest.mark.skipif("TRICKSTACK_DATA" not in os.environ, reason="needs TRICKSTACK_DATA with bccd")
def test_blood_cells_have_their_published_numbers():
    parts = VOCFolder("bccd").read_parts()
    assert {name: len(part) for name, part in parts.items()} == {"train": 205, "val": 87, "test": 72}
    assert sum(len(part.boxes) for part in parts.values()) == 4888 - 2
    assert sum(part.labels.bincount() for part in parts.values()).tolist() == [361, 4155 - 2, 372]
    assert all(bool((part.boxes <= torch.tensor([640, 480, 640, 480])).all()) for part in parts.values())


@pytest.mark.parametrize("letterbox", [False, True])
def test_sizes_of_boxes_are_in_pixels_of_the_input(root, letterbox):
    data = make(root, letterbox=letterbox)
    data.setup()
    boxes = data.sets["train"].__getitems__([0])[1]["boxes"][0]
    torch.testing.assert_close(data.box_sizes(), boxes[:, 2:] - boxes[:, :2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"val_fraction": 1.0}, "val_fraction=1.0 must be at least 0 and below 1"), ({"split_seed": -1}, "split_seed=-1")],
)
def test_wrong_splits_are_refused(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(root, **arguments)
