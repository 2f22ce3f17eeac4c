"""How much `ablate` adds to a training, and how fast images reach it."""

import functools
import statistics
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ablations.executors import run_local
from ablations.plan import Scoring, Training
from ablations.store import RunFolder
from ablations.training import run_training
from datamodules import (
    BatchRandomCrop,
    BatchRandomErasing,
    BatchRandomHorizontalFlip,
    BatchTrivialAugment,
    InMemoryDataModule,
    InMemoryImages,
)
from lit_modules.models import ResNet
from tests.benchmarks.report import Figure, median_ratio, seconds
from tests.helpers.recipes import digits_recipe

PLAIN = {"last": Scoring("last", {"weights": "last", "views": None})}
BATCH, STEPS = 128, 12


class RandomImages(InMemoryDataModule):
    """Noise in the shape of CIFAR-10: speed does not look at pictures."""

    class_names = tuple("0123456789")
    image_shape = (3, 32, 32)

    def load(self) -> InMemoryImages:
        return InMemoryImages(*random_images(BATCH * STEPS + 64))

    def split(self, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        order = torch.arange(len(targets))
        return {"train": order[:-64], "val": order[-64:-32], "test": order[-32:]}


def random_images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % 10


def overhead() -> Figure:
    """Wall time of a training in its own process, beyond its fit, once the first has started the server."""
    with tempfile.TemporaryDirectory() as folder:
        trainings = [Training("key", seed, digits_recipe(), PLAIN, Path(folder) / str(seed)) for seed in range(8)]
        started, beyond = 0.0, []
        for event in run_local(trainings, jobs=1):
            if hasattr(event, "reason"):
                result = RunFolder(event.training.folder).result()
                assert result is not None, event
                beyond.append(time.perf_counter() - started - result["seconds"])
            else:
                started = time.perf_counter()
    return Figure("overhead of a training beyond its fit, s", statistics.median(beyond[1:]), 0.5, at_most=True)


def throughput() -> Figure:
    """Images a second of a ResNet-20 under `ablate`, against a bare loop; channels_last, fp32, data in memory."""

    def under_ablate() -> float:
        recipe = digits_recipe(
            trainer__max_epochs=2,
            trainer__check_val_every_n_epoch=2,
            model__network__in_channels=3,
            model__network__width=16,
            model__network__layers=[3, 3, 3],
            data={"class_path": f"{__name__}.RandomImages", "init_args": {"batch_size": BATCH}},
        )
        with tempfile.TemporaryDirectory() as folder:
            run_training(Training("key", 0, recipe, PLAIN, Path(folder)))
            result = RunFolder(Path(folder)).result()
            assert result is not None
            return float(result["images_per_second"])

    def bare() -> float:
        network = ResNet(num_classes=10, layers=[3, 3, 3], block="basic", width=16, stem="small")
        network = network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-3)
        images, targets = random_images(BATCH * STEPS)

        def epoch() -> None:
            order = torch.randperm(len(images))
            for indices in order.split(BATCH):
                batch = (images[indices].float() / 255).contiguous(memory_format=torch.channels_last)
                loss = nn.functional.cross_entropy(network(batch), targets[indices])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        return 2 * BATCH * STEPS / (seconds(epoch) + seconds(epoch))

    ratio = median_ratio(under_ablate, bare, pairs=5)
    return Figure("throughput of LitClassifier under ablate / bare loop", ratio, 0.95, at_most=False)


class _PilImages(Dataset):
    """The usual pipeline: PIL images, augmented one by one."""

    def __init__(self, count: int, on_pil: list[nn.Module], on_tensor: list[nn.Module]) -> None:
        images, _ = random_images(count)
        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        self.transform = v2.Compose([*on_pil, v2.ToImage(), v2.ToDtype(torch.float32, True), *on_tensor])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(self.images[index])


def augmentation() -> list[Figure]:
    """Images a second of batched augmentation, against torchvision's PIL pipeline at its best number of workers."""
    crop_and_flip: list[nn.Module] = [BatchRandomCrop(padding=4), BatchRandomHorizontalFlip()]
    usual: list[nn.Module] = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
    plain = _augmentation_ratio(nn.Sequential(*crop_and_flip), _PilImages(BATCH * 40, usual, []))
    full = _augmentation_ratio(
        nn.Sequential(*crop_and_flip, BatchTrivialAugment(), BatchRandomErasing()),
        _PilImages(BATCH * 40, [*usual, v2.TrivialAugmentWide()], [v2.RandomErasing()]),
    )
    return [
        Figure("batched crop and flip / PIL pipeline in a DataLoader", plain, 2.5, at_most=False),
        Figure("the same with trivial augment and erasing", full, 1.5, at_most=False),
    ]


def _augmentation_ratio(transform: nn.Module, pil: _PilImages) -> float:
    count = len(pil)
    images, _ = random_images(count)

    def batched() -> None:
        for indices in torch.randperm(count).split(BATCH):
            transform(images[indices].float() / 255)

    def usual(workers: int) -> None:
        for _ in DataLoader(pil, batch_size=BATCH, shuffle=True, num_workers=workers):
            pass

    def best_usual() -> float:
        return min(seconds(functools.partial(usual, workers)) for workers in (0, 2))

    return median_ratio(best_usual, lambda: seconds(batched), pairs=3)
