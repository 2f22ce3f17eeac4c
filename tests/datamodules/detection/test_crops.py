"""Objects cut out of a detection data set, for a classifier."""

import pytest
import torch

from datamodules import DigitScenes, InMemoryImageFolder
from datamodules.decoding import decode_image
from datamodules.detection import write_crops


def make_scenes(**arguments) -> DigitScenes:
    return DigitScenes(
        **{"train_scenes": 30, "val_scenes": 10, "test_scenes": 10} | arguments, input_size=64, largest_digit=24
    )


def test_every_object_is_an_image_of_its_class(tmp_path):
    data = make_scenes()
    counts = write_crops(data, tmp_path / "crops", size=12)
    parts = data.read_parts()
    assert counts == {name: len(part.labels) for name, part in parts.items()}
    for name, part in parts.items():
        files = [len(list((tmp_path / "crops" / name / f"{digit}_{digit}").iterdir())) for digit in range(10)]
        assert files == part.labels.bincount(minlength=10).tolist()


def test_a_crop_of_the_size_of_its_box_is_the_image_itself(tmp_path):
    data = make_scenes()
    part = data.read_parts()["train"]
    sizes = part.boxes[:, 2:] - part.boxes[:, :2]
    place = int((sizes[:, 0] == sizes[:, 1]).nonzero()[0])
    owner = int((part.starts <= place).sum()) - 1
    write_crops(data, tmp_path / "crops", size=int(sizes[place, 0]))
    left, top, right, bottom = part.boxes[place].int().tolist()
    label, inner = int(part.labels[place]), place - int(part.starts[owner])
    path = tmp_path / "crops" / "train" / f"{label}_{label}" / f"{owner:06}_{inner}.png"
    crop = decode_image(path, channels=3)
    assert torch.equal(crop, part.images[owner][:, top:bottom, left:right])


def test_an_image_folder_reads_crops(tmp_path):
    counts = write_crops(make_scenes(val_scenes=40, test_scenes=40), tmp_path / "crops", size=8, margin=0.2)
    data = InMemoryImageFolder(str(tmp_path / "crops"), batch_size=8)
    data.setup("fit")
    assert [name[0] for name in data.class_names] == list("0123456789")
    assert len(data.sets["train"]) == counts["train"]


def test_nothing_is_written_over(tmp_path):
    with pytest.raises(FileExistsError):
        write_crops(make_scenes(), tmp_path)
    with pytest.raises(ValueError, match=r"size is 0 and margin 0\.0; they must be at least 1 and 0"):
        write_crops(make_scenes(), tmp_path / "crops", size=0)
