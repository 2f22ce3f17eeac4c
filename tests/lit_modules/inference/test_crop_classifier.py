"""Detections that are classified again."""

from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lit_modules.inference import CropClassifier


class Brightness(nn.Module):
    """Three classes by how bright the mean of a crop is: dark, medium, bright."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.zeros(3))

    def forward(self, images):
        assert not self.training
        self.seen = images
        return -50 * (images.mean((1, 2, 3))[:, None] - self.levels) ** 2


@pytest.fixture
def weights(tmp_path) -> str:
    path = tmp_path / "weights.safetensors"
    save_file({"network.levels": torch.tensor([0.0, 0.5, 1.0]), "loss.weight": torch.ones(1)}, path)
    return str(path)


def make_found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor(boxes).view(-1, 4).float(),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores),
    }


def make_image() -> torch.Tensor:
    image = torch.full((3, 32, 32), 0.5)
    image[:, 4:12, 4:12] = 0.0
    image[:, 16:24, 8:16] = 1.0
    return image


def test_a_box_has_the_classifiers_class_and_a_score_of_both(weights):
    images = torch.stack([make_image(), torch.zeros(3, 32, 32), make_image()])
    found = [
        make_found([[8, 16, 16, 24], [4, 4, 12, 12]], [0, 2], [0.9, 0.6]),
        make_found([], [], []),
        make_found([[20, 0, 28, 8]], [1], [0.5]),
    ]
    again = CropClassifier(Brightness, weights, size=8)(images, found)
    assert [each["labels"].tolist() for each in again] == [[2, 0], [], [1]]
    certainty = float(torch.tensor([0, -50 * 0.25, -50.0]).softmax(0)[0])
    torch.testing.assert_close(again[0]["scores"], torch.tensor([0.9, 0.6]) * certainty)
    assert torch.equal(again[0]["boxes"], found[0]["boxes"])
    middle = float(torch.tensor([-50 * 0.25, 0, -50 * 0.25]).softmax(0)[1])
    torch.testing.assert_close(again[2]["scores"], torch.tensor([0.5 * middle]))


def test_a_box_of_the_crops_size_is_seen_as_it_is(weights):
    torch.manual_seed(0)
    images = torch.rand(2, 3, 32, 32)
    classifier = CropClassifier(Brightness, weights, size=8)
    classifier(images, [make_found([], [], []), make_found([[3, 5, 11, 13]], [0], [1.0])])
    torch.testing.assert_close(classifier._classifier.seen, images[1:, :, 5:13, 3:11])


def test_a_margin_shows_what_is_around(weights):
    torch.manual_seed(0)
    images = torch.rand(1, 3, 32, 32)
    classifier = CropClassifier(Brightness, weights, size=16, margin=0.5)
    classifier(images, [make_found([[8, 9, 16, 17]], [0], [1.0])])
    torch.testing.assert_close(classifier._classifier.seen, images[:, :, 5:21, 4:20])


def test_two_boxes_of_one_object_become_one(weights):
    found = make_found([[4, 4, 12, 12], [4, 4, 12, 11]], [0, 1], [0.5, 0.9])
    (again,) = CropClassifier(Brightness, weights, size=8)(make_image()[None], [found])
    assert again["labels"].tolist() == [0]
    assert again["boxes"].tolist() == [[4, 4, 12, 11]]


def test_building_the_classifier_draws_no_random_numbers(weights):
    classifier = CropClassifier(partial(Brightness), weights)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    classifier(make_image()[None], [make_found([[4, 4, 12, 12]], [0], [0.5])])
    assert torch.equal(torch.rand(1), expected)


def test_a_detector_of_more_classes_is_refused(weights):
    classifier = CropClassifier(Brightness, weights)
    with pytest.raises(ValueError, match="the classifier has 3 classes, but the detector finds class 3, counted from"):
        classifier(make_image()[None], [make_found([[4, 4, 12, 12]], [3], [0.5])])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size is 0; it must be at least 1"),
        ({"margin": -0.1}, "margin is -0.1; it must be at least 0"),
        ({"nms_iou": 2.0}, "nms_iou is 2.0; it must be from 0 to 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, weights):
    with pytest.raises(ValueError, match=f"CropClassifier: {message}"):
        CropClassifier(Brightness, weights, **arguments)
