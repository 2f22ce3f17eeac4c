"""Pictures of the task: how an image is shown, and which mistakes of a classifier are."""

import copy

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Digits
from lit_modules.pictures import LEAST_SIDE, MOST_SIDE, ShowsPictures, displayed, images_of_test

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


@pytest.fixture
def tested(make_module, make_data, make_trainer):
    """A classifier that was tested, and its data."""
    data, module = make_data(size=20), make_module()
    make_trainer().test(module, datamodule=data, verbose=False)
    return module, data


def test_the_surest_mistakes_come_first_with_true_and_predicted_class(tested):
    module, data = tested
    probabilities, targets = module.predictions["probabilities"], data.targets
    wrong = [
        (-float(share.max()), place)
        for place, (share, target) in enumerate(zip(probabilities, targets, strict=True))
        if int(share.argmax()) != int(target)
    ]
    assert len(wrong) > 3
    expected = [place for _, place in sorted(wrong)]
    data.class_names = ("ape", "bee", "cat")
    assert isinstance(module, ShowsPictures)
    shown = module.pictures(data, 3)
    assert len(shown) == 3
    for picture, place in zip(shown, expected, strict=False):
        share = probabilities[place]
        true, taken = data.class_names[targets[place]], data.class_names[int(share.argmax())]
        assert picture.caption == f"{true}, taken for {taken} ({float(share.max()):.0%})"
        assert torch.equal(picture.image, displayed(data.images[place]))
    assert len(module.pictures(data, 100)) == len(wrong)


def test_without_class_names_the_classes_have_their_numbers(tested):
    module, data = tested
    first = module.pictures(data, 1)[0].caption
    assert first[0] in "012"


def test_no_mistake_gives_no_picture(tested):
    module, data = tested
    module.predictions["targets"] = module.predictions["probabilities"].argmax(1)
    assert module.pictures(data, 5) == []


def test_taking_pictures_changes_nothing_of_the_module(tested):
    module, data = tested
    before = copy.deepcopy(module.predictions)
    module.pictures(data, 5)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.predictions.items())


def test_several_labels_are_missed_or_not_there(make_module, make_data):
    module, data = make_module(), make_data(size=3)
    data.class_names = ("ape", "bee", "cat")
    module.predictions = {
        "probabilities": torch.tensor([[0.9, 0.1, 0.2], [0.6, 0.2, 0.3], [0.1, 0.8, 0.9]]),
        "targets": torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1]]),
    }
    captions = [picture.caption for picture in module.pictures(data, 5)]
    assert captions == ["not there: bee", "missed: cat; not there: ape"]


@pytest.mark.parametrize("batched", [False, True])
def test_images_come_as_the_test_loader_delivers_them(batched):
    if batched:
        data = Digits(normalize=True)  # on the device; that is not what is shown
        data.setup()
        images = data.sets["test"].images
    else:
        images = torch.arange(5 * 12).reshape(5, 1, 3, 4).float()
        data = L.LightningDataModule.from_datasets(test_dataset=TensorDataset(images, torch.zeros(5)))
    first, second = images_of_test(data, [4, 1])
    assert torch.equal(first, images[4])
    assert torch.equal(second, images[1])
    assert images_of_test(data, []) == []


def test_a_module_may_have_one_loader_in_a_list():
    images = torch.rand(3, 1, 2, 2)
    data = L.LightningDataModule()
    data.test_dataloader = lambda: [DataLoader(TensorDataset(images, torch.zeros(3)))]
    (image,) = images_of_test(data, [2])
    assert torch.equal(image, images[2])


def test_a_small_image_is_enlarged_with_sharp_pixels():
    image = torch.tensor([[[0, 100], [200, 255]]], dtype=torch.uint8)
    shown = displayed(image)
    assert shown.shape == (3, LEAST_SIDE, LEAST_SIDE)
    half = LEAST_SIDE // 2
    assert (shown[:, :half, half:] == 100).all()
    assert (shown[:, half:, :half] == 200).all()


def test_a_large_image_is_made_smaller_and_keeps_its_shape():
    assert displayed(torch.zeros(3, 100, 4 * MOST_SIDE, dtype=torch.uint8)).shape == (3, 25, MOST_SIDE)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.0, 0.5, 1.0], [0, 128, 255]), ([-1.0, 0.0, 3.0], [0, 64, 255]), ([2.0, 2.0, 2.0], [0, 0, 0])],
)
def test_floats_outside_of_zero_to_one_are_stretched(values, expected):
    shown = displayed(torch.tensor(values).reshape(1, 1, 3))
    assert shown[0, 0, :: shown.shape[2] // 3][:3].tolist() == expected


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_images_that_are_no_colours_show_their_first_channel_in_grey(channels):
    image = torch.randint(256, (channels, LEAST_SIDE, LEAST_SIDE), dtype=torch.uint8)
    assert torch.equal(displayed(image), image[:1].expand(3, -1, -1))
