"""LitDetector: what it keeps of a test, views and ensembles of detectors, pictures, and the resume within an epoch."""

import pytest
import torch

from lit_modules import LitDetector
from lit_modules.detectors import Detector, DetectorEnsemble
from lit_modules.inference import FusedBoxes, HorizontalFlipViews, Inference, SuppressedBoxes
from lit_modules.initialization import XavierInitialization
from lit_modules.padding import pad_boxes
from tests.lit_modules.test_detector import FROZEN, SIZE, Scenes, Scripted, make_trainer, make_yolo

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class Certain(Scripted):
    """Finds true boxes, with a score of its own, moved to the right."""

    def __init__(self, score, shift=0.0):
        super().__init__()
        self.score, self.shift = score, shift

    def detect(self, images):
        found = super().detect(images)
        move = torch.tensor([self.shift, 0.0, self.shift, 0.0])
        return [{**each, "boxes": each["boxes"] + move, "scores": each["scores"] * self.score} for each in found]


def test_predictions_of_a_test_are_padded_and_in_order():
    module, data = LitDetector(Scripted(), FROZEN), Scenes((5, 3))
    make_trainer().test(module, data, verbose=False)
    found = [each for images, _ in data.test_dataloader() for each in module.detector.detect(images)]
    counts = [len(each["scores"]) for each in found]
    assert sorted(set(counts)) == [0, 1]
    assert {name: tuple(part.shape) for name, part in module.predictions.items()} == {
        "boxes": (8, 1, 4),
        "scores": (8, 1),
        "labels": (8, 1),
    }
    for place, each in enumerate(found):
        real = module.predictions["labels"][place] >= 0
        assert int(real.sum()) == counts[place]
        for name, part in each.items():
            assert torch.equal(module.predictions[name][place][real], part)


def test_boxes_are_padded_to_the_width():
    one = {"boxes": torch.ones(1, 4), "scores": torch.ones(1), "labels": torch.zeros(1, dtype=torch.int64)}
    padded = pad_boxes([one], 3)
    assert padded["labels"].tolist() == [[0, -1, -1]]
    assert padded["scores"].tolist() == [[1, 0, 0]]
    assert padded["boxes"].tolist() == [[[1] * 4, [0] * 4, [0] * 4]]


def test_a_detector_that_finds_the_same_in_both_views_keeps_boxes_and_scores():
    images = Scenes().batches[0]["images"]
    module = LitDetector(Certain(0.5), FROZEN)
    plain = module.predict_step(images, 0)
    module.inference = Inference(views=HorizontalFlipViews())
    both = module.predict_step(images, 0)
    for alone, merged in zip(plain, both, strict=True):
        assert torch.allclose(alone["boxes"], merged["boxes"])
        assert torch.allclose(alone["scores"], merged["scores"])
    assert sum(len(each["scores"]) for each in plain) == 7


def test_boxes_of_views_stay_inside_the_image_and_merging_can_be_chosen():
    images = Scenes().batches[0]["images"]
    module = LitDetector(Certain(0.5, shift=40.0), FROZEN)
    module.inference = Inference(views=HorizontalFlipViews(), merging=SuppressedBoxes(iou=1.0))
    found = torch.cat([each["boxes"] for each in module.predict_step(images, 0)])
    assert len(found) == 14  # no two of one image are the same
    assert found.min() >= 0
    assert found.max() <= SIZE


def test_an_ensemble_merges_what_its_members_find():
    images = Scenes().batches[0]["images"]
    members = [Certain(0.9), Certain(0.3, shift=2.0)]
    module = LitDetector(members[0], FROZEN)
    expected = [FusedBoxes()(several) for several in zip(*(member.detect(images) for member in members), strict=True)]
    for found, wanted in zip(module.combine(members)(images), expected, strict=True):
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_an_ensemble_is_not_trained_and_needs_members():
    with pytest.raises(NotImplementedError, match="several detectors are not trained together"):
        DetectorEnsemble([Scripted()], FusedBoxes())(torch.zeros(1, 3, SIZE, SIZE), {})
    with pytest.raises(ValueError, match="there are no members to merge"):
        DetectorEnsemble([], FusedBoxes())


def test_initial_weights_can_be_drawn_anew():
    torch.manual_seed(0)
    weights = {}
    for init in (None, XavierInitialization()):
        detector: Detector = make_yolo()
        torch.manual_seed(1)
        weights[init] = LitDetector(detector, FROZEN, init=init).detector.state_dict()
    changed = {name for name, tensor in weights[None].items() if not torch.equal(tensor, [*weights.values()][1][name])}
    assert {name.rpartition(".")[2] for name in changed} == {"weight", "bias"}
    assert any("backbone" in name for name in changed)


def test_pictures_show_the_truth_on_the_left_and_detections_on_the_right():
    module, data = LitDetector(Certain(0.9), FROZEN), Scenes()
    data.class_names = ("wide", "tall")
    make_trainer().test(module, data, verbose=False)
    scores = module.predictions["scores"].clone()
    scores[3] = 0.1  # too unsure to be drawn
    module.predictions["scores"] = scores
    loader = data.test_dataloader()
    images, targets = loader.dataset[0]
    samples = [(images[i], {name: part[i] for name, part in targets.items()}) for i in range(8)]
    data.test_dataloader = lambda: torch.utils.data.DataLoader(samples, batch_size=4)
    pictures = module.pictures(data, 4)
    assert [picture.caption for picture in pictures] == [
        "0 true boxes on the left, 0 found with a score of at least 0.3",
        "2 true boxes on the left, 1 found with a score of at least 0.3",
        "1 true boxes on the left, 1 found with a score of at least 0.3",
        "2 true boxes on the left, 0 found with a score of at least 0.3",
    ]
    for picture in pictures:
        height, width = picture.image.shape[1:]
        assert width == 2 * height + 4
    drawn = [picture.image[:, :, :SIZE] != picture.image[:, :, -SIZE:] for picture in pictures]
    is_of_another_class = bool(targets["labels"][2].max() > 0)  # so the box has another colour and name
    assert [bool(each.any()) for each in drawn] == [False, True, is_of_another_class, True]
