"""Folders in the layout of COCO."""

import json

import pytest

from datamodules.detection import COCOFolder
from tests.datamodules.detection.box_folders import coco_content, write_coco

CAT = {"image_id": 10, "category_id": 3, "bbox": [4, 6, 20, 10.5]}
DOGS = {"image_id": 10, "category_id": 7, "bbox": [0, 0, 64, 48], "iscrowd": 1}


def make(tmp_path, train, test=None, **arguments):
    root = write_coco(tmp_path / "pets", {"train2017": train, "val2017": test or coco_content([CAT], images=1)})
    return COCOFolder(root.name, str(tmp_path), **{"input_size": 64, "batch_size": 1, "val_fraction": 0.5} | arguments)


def test_boxes_classes_and_crowds_are_read(tmp_path):
    data = make(tmp_path, coco_content([DOGS, CAT]))
    train = data.read_parts()["train"]
    assert data.class_names == ("cat", "dog")
    assert train.boxes.tolist() == [[0, 0, 64, 48], [4, 6, 24, 16.5]]
    assert train.labels.tolist() == [1, 0]
    assert train.crowd.tolist() == [True, False]
    assert train.starts.tolist() == [0, 2, 2]


def test_a_share_of_the_training_images_is_held_out(tmp_path):
    data = make(tmp_path, coco_content([CAT], images=4))
    data.setup()
    paths = {name: {part.source.images.path(index) for index in range(len(part))} for name, part in data.sets.items()}
    assert [len(paths[name]) for name in ("train", "val", "test")] == [2, 2, 1]
    assert not paths["train"] & paths["val"]
    assert sum(len(data.sets[name].source.boxes) for name in ("train", "val")) == 1


def test_which_images_are_held_out_depends_on_the_seed_alone(tmp_path):
    held = [
        make(tmp_path, coco_content([CAT], images=20), split_seed=seed)._read()["val"].images.paths.tolist()
        for seed in (0, 0, 1)
    ]
    assert held[0] == held[1] != held[2]


def test_without_validation_images_training_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"val_fraction=0.0 of 2 training images holds out 0"):
        make(tmp_path, coco_content([CAT]), val_fraction=0.0).setup()


def twice(content, key):
    content[key].append(dict(content[key][0]))
    return content


def changed(key, **fields):
    content = coco_content([CAT])
    content[key][0].update(fields)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (twice(coco_content([CAT]), "images"), r"train2017\.json: the id of images 10 is there more than once"),
        (twice(coco_content([CAT]), "annotations"), r"the id of annotations 0 is there more than once"),
        (twice(coco_content([CAT]), "categories"), r"the id of categories 7 is there more than once"),
        (coco_content([CAT | {"image_id": 5}]), r"annotation 0 is for the image_id 5, which no image has"),
        (coco_content([CAT | {"category_id": 5}]), r"annotation 0 has the category_id 5, which no category has"),
        (coco_content([CAT | {"bbox": [1, 2, 3]}]), r"annotation 0 has the bbox \[1, 2, 3\]; it must be four numbers"),
        (coco_content([CAT | {"bbox": [1, 2, 0, 3]}]), r"of 1 box\(es\) none has an area"),
        (coco_content([]), r"of 0 box\(es\) none has an area"),
        (coco_content([CAT | {"bbox": [1, 2, float("nan"), 3]}]), r"bbox \[1, 2, nan, 3\]; it must be four numbers"),
        (
            coco_content([CAT | {"image_id": None}]),
            r"annotations\[0\] has the image_id None; it must be a whole",
        ),
        (changed("images", file_name=None), r"images\[0\] has the file_name None; it must be a text"),
        (changed("images", width="64"), r"images\[0\] has the width '64'; it must be a whole number"),
        (changed("images", height=0), r"images\[0\] has the height 0; it must be a whole number from 1 up"),
        (changed("categories", name=3), r"categories\[0\] has the name 3; it must be a text"),
        (coco_content([CAT]) | {"images": [5]}, r"images\[0\] is 5; it must have id, file_name, width, height"),
        (coco_content([CAT]) | {"images": {"a": 1}}, r"train2017\.json has no list of images"),
        ([1], r"train2017\.json has no list of images, annotations, categories"),
        ({"images": []}, r"train2017\.json has no list of annotations, categories: these are no COCO annotations"),
    ],
)
def test_annotations_that_cannot_be_are_refused(tmp_path, content, message):
    data = make(tmp_path, coco_content([CAT]))
    (tmp_path / "pets/annotations/instances_train2017.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        data.read_parts()


def test_a_missing_image_is_said(tmp_path):
    data = make(tmp_path, coco_content([CAT]))
    (tmp_path / "pets/train2017/1.png").unlink()
    with pytest.raises(ValueError, match=r"train2017\.json: the image .*1\.png is missing"):
        data.read_parts()


def test_what_is_no_json_is_refused(tmp_path):
    data = make(tmp_path, coco_content([CAT]))
    (tmp_path / "pets/annotations/instances_train2017.json").write_text("{")
    with pytest.raises(ValueError, match=r"train2017\.json is no JSON"):
        data.read_parts()


def test_parts_with_other_categories_are_refused(tmp_path):
    test = coco_content([CAT])
    test["categories"][0]["name"] = "wolf"
    with pytest.raises(ValueError, match=r"val2017\.json has other categories than the annotations of train2017"):
        make(tmp_path, coco_content([CAT]), test).read_parts()


def test_missing_annotations_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*instances_other\.json"):
        make(tmp_path, coco_content([CAT]), test=None, val="other").read_parts()
