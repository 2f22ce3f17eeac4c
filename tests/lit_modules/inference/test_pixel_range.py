"""Views of normalized images against normalized views of the raw ones, through real tests of every module."""

import math
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Digits, DigitScenes, DigitsRetrieval
from lit_modules import LitClassifier, LitDetector, LitRetriever
from lit_modules.detectors import Detector
from lit_modules.inference import (
    CornerCropViews,
    CropClassifier,
    HorizontalFlipViews,
    Inference,
    MultiScaleViews,
    PixelRange,
    Views,
)
from lit_modules.models import ResNet
from tests.helpers.one_weight import make_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

SGD = partial(torch.optim.SGD, lr=0.1)
VIEWS = [HorizontalFlipViews(), CornerCropViews(2), MultiScaleViews((0.5, 1.5)), MultiScaleViews((2.0,), divisor=4)]


class SeenByClassifier(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, self.seen = classes, list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return images.new_zeros(len(images), self.classes)


class SeenByRetriever(ResNet):
    def __init__(self) -> None:
        super().__init__(5, [1], "basic", width=4, in_channels=1, stem="small")
        self.seen = list[Tensor]()

    def embed(self, images: Tensor) -> Any:
        self.seen.append(images)
        return super().embed(images)


class SeenByDetector(Detector):
    """Finds the whole image in each."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = list[Tensor]()

    def losses(self, images: Tensor, targets: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    def detect(self, images: Tensor) -> Any:
        self.seen.append(images)
        box = torch.tensor([[0.0, 0.0, images.shape[-1], images.shape[-2]]])
        return [{"boxes": box, "scores": torch.ones(1), "labels": torch.zeros(1, dtype=torch.int64)} for _ in images]


def make_task(task: str, normalize: bool) -> tuple[Any, Any, list[Tensor]]:
    """Return a module, its data, and a list to which the network adds what it sees."""
    torch.manual_seed(0)
    if task == "classification":
        classifier = SeenByClassifier(10)
        return LitClassifier(classifier, nn.CrossEntropyLoss(), SGD), Digits(normalize=normalize), classifier.seen
    if task == "retrieval":
        network = SeenByRetriever()
        return LitRetriever(network, nn.CrossEntropyLoss(), SGD), DigitsRetrieval(normalize=normalize), network.seen
    detector = SeenByDetector()
    data = DigitScenes(train_scenes=8, val_scenes=2, test_scenes=6, input_size=64, normalize=normalize, batch_size=4)
    return LitDetector(detector, SGD), data, detector.seen


def raw_images(data: Any, part: str) -> Tensor:
    """The images of a part as a loader gives them, in [0, 1]."""
    loader = data.eval_dataloader(part) if hasattr(data, "eval_dataloader") else data._eval_dataloader(part)
    return torch.cat([batch[0] for batch in loader]).double() / 255


def normalized(images: Tensor, training: Tensor) -> Tensor:
    mean = training.mean((0, 2, 3), keepdim=True)
    return (images - mean) / training.var((0, 2, 3), keepdim=True, correction=0).sqrt()


def test_every_class_of_views_is_here() -> None:
    ours = {each for each in Views.__subclasses__() if each.__module__.startswith("lit_modules.")}
    assert {type(views) for views in VIEWS} == ours


@pytest.mark.parametrize("views", VIEWS, ids=lambda views: f"{type(views).__name__}-{views.extra_repr()}")
@pytest.mark.parametrize("task", ["classification", "retrieval", "detection"])
@pytest.mark.parametrize("how", ["test", "predict"])
def test_views_of_normalized_images_are_the_normalized_views(views: Views, task: str, how: str) -> None:
    module, data, seen = make_task(task, normalize=True)
    module.inference = Inference(views=views)
    getattr(make_trainer(), how)(module, datamodule=data)
    raw, training = raw_images(data, "test"), raw_images(data, "train")
    expected = views(raw)
    assert len(seen) == len(expected)  # the test is one batch
    for view, shown in zip(expected, seen, strict=True):
        torch.testing.assert_close(shown.double(), normalized(view, training), atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16-true", torch.bfloat16), ("16-true", torch.float16), ("64-true", torch.float64)]
)
def test_views_hold_what_the_precision_makes_of_black(precision: str, dtype: torch.dtype) -> None:
    module, data, seen = make_task("classification", normalize=True)
    module.inference = Inference(views=CornerCropViews(1))
    make_trainer(precision=precision).test(module, datamodule=data, verbose=False)
    mean, sd = (part.float().view(1) for part in data._statistics)
    black = ((0 - mean) / sd).to(dtype)
    assert seen[1].dtype == dtype
    assert (seen[1][:, :, 0] == black).all() and (seen[4][:, :, :, -1] == black).all()


@pytest.mark.parametrize("task", ["classification", "retrieval", "detection"])
def test_views_of_images_as_they_are_hold_zeros(task: str) -> None:
    module, data, seen = make_task(task, normalize=False)
    module.inference = Inference(views=CornerCropViews(2))
    make_trainer().test(module, datamodule=data, verbose=False)
    expected = CornerCropViews(2)((raw_images(data, "test") * 255).to(torch.uint8).float() / 255)
    assert all(torch.equal(shown, view) for view, shown in zip(expected, seen, strict=True))


def test_scores_of_crops_are_those_of_a_loop_that_crops_before_it_normalizes() -> None:
    torch.manual_seed(0)
    data = Digits(normalize=True)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    module = LitClassifier(network, nn.CrossEntropyLoss(), partial(torch.optim.SGD, lr=0.1, momentum=0.9))
    trainer = make_trainer(max_epochs=20, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    module.inference = Inference(views=CornerCropViews(1))
    (scores,) = trainer.test(module, datamodule=data, verbose=False)

    pixels, training = raw_images(data, "test"), raw_images(data, "train")
    summed = torch.zeros(len(pixels), 10)
    for down, right in [(0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]:
        shifted = torch.zeros_like(pixels)
        for y in range(8):
            for x in range(8):
                if 0 <= y - down < 8 and 0 <= x - right < 8:
                    shifted[..., y, x] = pixels[..., y - down, x - right]
        with torch.no_grad():
            summed += network(normalized(shifted, training).float()).softmax(1)
    torch.testing.assert_close(module.predictions["probabilities"], summed / 5, atol=1e-4, rtol=0)
    right_ones = (summed.argmax(1) == data.sets["test"].targets).double().mean().item()
    assert scores["test/accuracy"] == pytest.approx(right_ones, abs=1e-6)


class Kept(nn.Module):
    """A classifier of crops that keeps them."""

    seen: list[Tensor] = []

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        Kept.seen.append(images)
        return images.new_zeros(len(images), 10)


def test_a_classifier_of_boxes_sees_them_as_they_were_before_normalization(tmp_path: Any) -> None:
    Kept.seen.clear()
    save_file({"network.weight": torch.zeros(1)}, tmp_path / "weights.safetensors")
    module, data, _ = make_task("detection", normalize=True)
    module.inference = Inference(classifier=CropClassifier(Kept, str(tmp_path / "weights.safetensors"), size=64))
    make_trainer().test(module, datamodule=data, verbose=False)
    torch.testing.assert_close(Kept.seen[0].double(), raw_images(data, "test"), atol=1e-5, rtol=0)


# --- data and views of one's own ------------------------------------------------------------------------------------


class OwnData(L.LightningDataModule):
    """Images of two channels that lie between 10 and 30, and between -1 and 0."""

    def __init__(self, pixel_range: Any = None) -> None:
        super().__init__()
        if pixel_range is not None:
            self.pixel_range = pixel_range
        levels = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
        self.images = levels * torch.tensor([20.0, 1.0])[:, None, None] + torch.tensor([10.0, -1.0])[:, None, None]

    def test_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.images, torch.zeros(3).long()), batch_size=2)


def seen_in_test(data: OwnData, views: Views) -> list[Tensor]:
    network = SeenByClassifier(3)
    module = LitClassifier(network, nn.CrossEntropyLoss(), SGD)
    module.inference = Inference(views=views)
    make_trainer().test(module, datamodule=data, verbose=False)
    return network.seen


def test_data_of_ones_own_say_what_black_is() -> None:
    seen = seen_in_test(OwnData(((10.0, -1.0), (30.0, 0.0))), CornerCropViews(1))
    assert len(seen) == 10 and [len(images) for images in seen] == [2] * 5 + [1] * 5
    assert (seen[1][:, 0, 0] == 10).all() and (seen[1][:, 1, 0] == -1).all()
    assert torch.equal(seen[1][..., 1:, 1:], seen[0][..., :-1, :-1])


def test_where_data_do_not_say_black_is_zero() -> None:
    data = OwnData()
    seen = seen_in_test(data, CornerCropViews(1))
    assert all(torch.equal(*pair) for pair in zip(seen[:5], CornerCropViews(1)(data.images[:2]), strict=True))


def test_a_test_without_datamodule_forgets_the_range_of_the_one_before() -> None:
    network, data = SeenByClassifier(3), OwnData(((10.0, -1.0), (30.0, 0.0)))
    module = LitClassifier(network, nn.CrossEntropyLoss(), SGD)
    module.inference = Inference(views=CornerCropViews(1))
    make_trainer().test(module, datamodule=data, verbose=False)
    network.seen.clear()
    make_trainer().test(module, dataloaders=data.test_dataloader(), verbose=False)
    assert (network.seen[1][..., 0, :] == 0).all()


def test_views_of_ones_own_need_a_forward_alone() -> None:
    class Upside(Views):
        def forward(self, images: Tensor) -> list[Tensor]:
            return [images, images.flip(-2)]

    seen = seen_in_test(OwnData(((10.0, -1.0), (30.0, 0.0))), Upside())
    assert torch.equal(seen[1], seen[0].flip(-2))


@pytest.mark.parametrize(
    "given", [(0.0, 1.0), ((0.0,), (1.0,), (2.0,)), ((0.0, math.nan), (1.0, 1.0)), ((0.0, 1.0), (1.0, 1.0))]
)
def test_a_range_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"OwnData\.pixel_range must be .* two rows of finite numbers \(2, C\)"):
        PixelRange(OwnData(given))


def test_a_range_of_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"OwnData\.pixel_range is of 1 channel\(s\), but the images have 2"):
        seen_in_test(OwnData(((0.0,), (1.0,))), CornerCropViews(1))
