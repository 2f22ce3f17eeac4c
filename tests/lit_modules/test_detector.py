"""LitDetector: what it logs, and that its parts learn together."""

import warnings
from functools import partial

import lightning as L
import pytest
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader

from datamodules import DigitScenes
from lit_modules import DivergedError
from lit_modules.detector import LitDetector
from lit_modules.detectors import Detector, TorchvisionDetector, YOLODetector
from lit_modules.metrics import VOCAveragePrecision
from lit_modules.models import Darknet, YOLODetections, YOLOv3, YOLOv3Loss
from lit_modules.schedules import ReduceOnPlateau

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

SIZE = 64


def make_scenes(count: int = 8) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Bright rectangles on noise; a wide one is of class 0, a tall one of class 1. The first scene is empty."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, SIZE, SIZE, generator=generator) * 0.2
    boxes, labels = torch.zeros(count, 2, 4), torch.full((count, 2), -1)
    for image in range(1, count):
        for place in range(1 + image % 2):
            label = int(torch.randint(2, (), generator=generator))
            width, height = (24, 14) if label == 0 else (14, 24)
            left = int(torch.randint(SIZE - width, (), generator=generator))
            top = 32 * place + int(torch.randint(32 - height, (), generator=generator))
            images[image, :, top : top + height, left : left + width] += 0.7
            boxes[image, place] = torch.tensor([left, top, left + width, top + height]).float()
            labels[image, place] = label
    return images, {"boxes": boxes, "labels": labels, "crowd": torch.zeros(count, 2, dtype=torch.bool)}


class Scenes(L.LightningDataModule):
    """One batch of all scenes, or batches of given sizes."""

    def __init__(self, sizes: tuple[int, ...] = (8,), **changes: torch.Tensor) -> None:
        super().__init__()
        images, targets = make_scenes(sum(sizes))
        parts = {"images": images, **targets, **changes}
        split = {name: part.split(list(sizes)) for name, part in parts.items()}
        self.batches = [{name: part[index] for name, part in split.items()} for index in range(len(sizes))]

    def train_dataloader(self):
        pairs = [(batch["images"], {k: v for k, v in batch.items() if k != "images"}) for batch in self.batches]
        return DataLoader(pairs, batch_size=None)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


def make_yolo(classes: int = 2, **arguments) -> YOLODetector:
    torch.manual_seed(0)
    network = YOLOv3(classes, Darknet([0, 0, 1, 1, 0], 8), input_size=SIZE, objectness_prior=0.02)
    return YOLODetector(network, YOLOv3Loss(), YOLODetections(**arguments))


def make_trainer(**arguments) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(**quiet | {"enable_checkpointing": False, "accelerator": "cpu", "max_epochs": 1} | arguments)


FROZEN = partial(torch.optim.SGD, lr=0.0)


class Scripted(Detector):
    """Losses that say how large their batch is, and true boxes as detections."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(scale))

    def losses(self, images, targets):
        count = torch.tensor(float(len(images)))
        return {"one": self.weight * count, "two": self.weight * 10}

    def detect(self, images):
        bright = (images > 0.65).any(1)
        found = []
        for image in bright:
            spots = image.nonzero()
            box = [*spots.amin(0).flip(0).tolist(), *(spots.amax(0) + 1).flip(0).tolist()] if len(spots) else None
            boxes = torch.tensor([box] if box else []).view(-1, 4).float()
            labels = torch.zeros(len(boxes), dtype=torch.int64)
            found.append({"boxes": boxes, "scores": torch.ones(len(boxes)), "labels": labels})
        return found


def test_losses_are_means_over_images_though_the_last_batch_is_smaller():
    trainer = make_trainer(limit_val_batches=0)
    trainer.fit(LitDetector(Scripted(), FROZEN), datamodule=Scenes((5, 3)))
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    expected = {"train/loss_one": 34 / 8, "train/loss_two": 10, "train/loss": 34 / 8 + 10}
    assert logged == pytest.approx(expected)


def test_the_metric_is_computed_over_all_batches_and_anew_each_time():
    metric = VOCAveragePrecision(2, "area")
    module, data = LitDetector(Scripted(), FROZEN, metric=metric), Scenes((5, 3))
    by_hand = metric.clone()
    for images, targets in data.test_dataloader():
        by_hand.update(module.detector.detect(images), targets)
    expected = by_hand.compute()["map"].item()
    assert 0 < expected < 1
    for _ in range(2):
        assert make_trainer().test(module, data, verbose=False)[0] == {"test/map": pytest.approx(expected)}
        assert make_trainer().validate(module, data, verbose=False)[0] == {"val/map": pytest.approx(expected)}


def test_predictions_are_what_the_detector_finds():
    module, data = LitDetector(make_yolo(), FROZEN), Scenes()
    (found,) = make_trainer().predict(module, data)
    with torch.no_grad():
        expected = module.detector.eval().detect(next(iter(data.predict_dataloader()))[0])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one["boxes"], other["boxes"])


def test_a_yolov3_overfits_eight_scenes_of_digits():
    torch.manual_seed(0)
    data = DigitScenes(8, 1, 1, most_digits=3, largest_digit=28, input_size=SIZE, batch_size=8)
    data.test_dataloader = data.train_dataloader
    network = YOLOv3(10, Darknet([0, 0, 1, 1, 0], 8), input_size=SIZE, objectness_prior=0.02)
    module = LitDetector(
        YOLODetector(network),
        partial(torch.optim.Adam, lr=3e-3),
        torch.optim.lr_scheduler.CosineAnnealingLR,
        metric=VOCAveragePrecision(10, "area"),
    )
    trainer = make_trainer(max_epochs=100, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    assert trainer.test(module, data, verbose=False)[0]["test/map"] >= 0.95


def test_the_rate_follows_the_schedule_by_steps():
    def linear(optimizer, total_steps):
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_steps)

    module = LitDetector(Scripted(), partial(torch.optim.SGD, lr=1e-3), linear)
    trainer = make_trainer(max_epochs=2, limit_val_batches=0)
    trainer.fit(module, datamodule=Scenes((3, 3, 2)))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 6


def test_a_loss_that_is_no_number_ends_the_training():
    with pytest.raises(DivergedError):
        make_trainer(limit_val_batches=0).fit(LitDetector(Scripted(float("nan")), FROZEN), datamodule=Scenes())


def test_a_schedule_without_an_end_is_refused():
    module = LitDetector(Scripted(), FROZEN, torch.optim.lr_scheduler.CosineAnnealingLR)
    with pytest.raises(ValueError, match="the schedule needs the number of optimizer steps of the run"):
        make_trainer(max_epochs=-1, limit_val_batches=0).fit(module, datamodule=Scenes())


def test_a_schedule_may_wait_for_the_map():
    plateau = partial(ReduceOnPlateau, monitor="val/map", patience=1)
    module = LitDetector(Scripted(), partial(torch.optim.SGD, lr=1.0), plateau)
    trainer = make_trainer(max_epochs=4)
    trainer.fit(module, datamodule=Scenes((5, 3)))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1)


def test_a_network_for_another_number_of_classes_is_refused():
    data = Scenes()
    data.num_classes = 5
    with pytest.raises(ValueError, match=r"the network is for 2 classes, but the datamodule has 5\. Set the network's"):
        make_trainer().fit(LitDetector(make_yolo(), FROZEN), datamodule=data)


TORCHVISION = {
    "retinanet": torchvision.models.detection.retinanet_resnet50_fpn,
    "fcos": torchvision.models.detection.fcos_resnet50_fpn,
    "faster_rcnn": torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn,
    "ssd": torchvision.models.detection.ssdlite320_mobilenet_v3_large,
}


@pytest.mark.parametrize("make", TORCHVISION.values(), ids=TORCHVISION)
def test_torchvisions_detectors_train_and_detect(make):
    torch.manual_seed(0)
    sizes = {} if make is TORCHVISION["ssd"] else {"min_size": SIZE, "max_size": SIZE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = make(weights=None, weights_backbone=None, num_classes=3, **sizes)
    detector = TorchvisionDetector(network)
    images, targets = make_scenes(2)
    parts = detector.train().losses(images, targets)
    assert len(parts) >= 2
    sum(parts.values()).backward()
    assert any(bool(parameter.grad.abs().sum() > 0) for parameter in network.parameters() if parameter.grad is not None)
    with torch.no_grad():
        found = detector.eval().detect(images)
    assert all(bool(((each["labels"] >= 0) & (each["labels"] < 2)).all()) for each in found)


def test_torchvision_gets_labels_from_one_and_no_crowds():
    class Watch(nn.Module):
        def forward(self, images, targets=None):
            if targets is None:
                return [{"boxes": torch.ones(1, 4), "scores": torch.ones(1), "labels": torch.tensor([2])}] * len(images)
            self.seen = targets
            return {}

    detector = TorchvisionDetector(Watch())
    images, targets = make_scenes(4)
    targets["crowd"][3, 0] = True
    detector.losses(images, targets)
    labels = [each["labels"].tolist() for each in detector.network.seen]
    assert labels[0] == []
    assert labels[3] == [targets["labels"][3, 1].item() + 1]
    assert torch.equal(detector.network.seen[1]["boxes"], targets["boxes"][1])
    assert detector.detect(images)[0]["labels"].tolist() == [1]


def test_torchvision_refuses_boxes_with_weights():
    images, targets = make_scenes(2)
    with pytest.raises(ValueError, match="the boxes have weights, but Identity knows none"):
        TorchvisionDetector(nn.Identity()).losses(images, targets | {"weights": torch.ones(2, 2)})
