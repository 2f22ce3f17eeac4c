"""How fast image files reach a training, and what they cost in memory."""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from datamodules import (
    BatchRandomCrop,
    BatchRandomHorizontalFlip,
    InMemoryDataModule,
    InMemoryImageFolder,
    InMemoryImages,
    StreamedImageFolder,
)
from lit_modules import LitClassifier
from lit_modules.models import ResNet
from tests.benchmarks.report import Figure, median_ratio, seconds

BATCH, STEPS, CLASSES, WORKERS = 128, 8, 10, 2
SMALL = 50_000
"""Generated JPEG files, as many as CIFAR-10 has images for training, by which decoding is timed."""


def write_jpegs(root: Path, count: int, height: int, width: int) -> None:
    """Write smooth pictures, a hundred of them over and over, into ``train/`` and a few into ``test/``."""
    generator = np.random.default_rng(0)
    contents = []
    for _ in range(100):
        coarse = Image.fromarray(generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8))
        path = root / "one.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
        contents.append(path.read_bytes())
        path.unlink()
    for part, images in (("train", count), ("test", 2 * CLASSES)):
        for number in range(images):
            path = root / part / f"class_{number % CLASSES}" / f"{number:06}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[number % len(contents)])


def resnet20(channels_last: bool) -> LitClassifier:
    return LitClassifier(
        network=ResNet(num_classes=CLASSES, layers=[3, 3, 3], block="basic", width=16, stem="small"),
        loss=nn.CrossEntropyLoss(),
        optimizer=functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),  # type: ignore[arg-type]
        channels_last=channels_last,
    )


class _Ready(InMemoryDataModule):
    """Images that are tensors from the start."""

    class_names = tuple("0123456789")
    image_shape = (3, 32, 32)

    def load(self) -> InMemoryImages:
        images = torch.randint(0, 256, (BATCH * STEPS + 40, 3, 32, 32), dtype=torch.uint8)
        return InMemoryImages(images, torch.arange(len(images)) % CLASSES)

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        order = torch.arange(len(targets))
        return {"train": order[:-40], "val": order[-40:-20], "test": order[-20:]}


class _EpochTimes(L.Callback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_epoch_start(self, *arguments: Any) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, *arguments: Any) -> None:
        self.times.append(time.perf_counter() - self.started)


def fit_time(data: L.LightningDataModule, precision: Any) -> float:
    """Seconds of an epoch after the first."""
    times = _EpochTimes()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, limit_val_batches=0, precision=precision, callbacks=[times], **quiet
    )
    trainer.fit(resnet20(channels_last=True), datamodule=data)
    return times.times[1]


def usual_epoch(root: Path) -> float:
    """Seconds of an epoch of the loop that people write: `ImageFolder`, PIL transforms, two workers, fp32.

    The transforms are those of CIFAR-10's usual recipe (arXiv:1512.03385, section 4.2), normalization included.
    """
    steps = [
        torchvision.transforms.RandomCrop(32, padding=4),
        torchvision.transforms.RandomHorizontalFlip(),
        torchvision.transforms.ToTensor(),
        torchvision.transforms.Normalize((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    ]
    images = torchvision.datasets.ImageFolder(str(root / "train"), torchvision.transforms.Compose(steps))
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True)
    network = resnet20(channels_last=False).network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    def epoch() -> None:
        for batch, targets in loader:
            loss = nn.functional.cross_entropy(network(batch), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    epoch()
    return seconds(epoch)


def has_fast_bf16() -> bool:
    """Whether the processor multiplies bf16 matrices, or for want of `/proc` a device does."""
    info = Path("/proc/cpuinfo")
    return info.exists() and any(unit in info.read_text() for unit in ("amx_bf16", "avx512_bf16"))


def folder() -> list[Figure]:
    """From a folder of JPEGs to trained steps: ResNet-20, against the usual loop and against tensors in memory."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "images"
        write_jpegs(root, BATCH * STEPS + 20, 32, 32)
        precision = "bf16-mixed" if has_fast_bf16() else "32-true"
        transforms = [BatchRandomCrop(padding=4), BatchRandomHorizontalFlip()]

        batches: dict[str, Any] = {"batch_size": BATCH, "transforms": transforms, "normalize": True}

        def ours() -> float:
            return fit_time(InMemoryImageFolder("images", name, val_size=20, **batches), precision)

        def ready() -> float:
            return fit_time(_Ready(**batches), precision)

        against_usual = median_ratio(lambda: usual_epoch(root), ours, pairs=9)
        against_ready = median_ratio(ready, ours, pairs=9)
    return [
        Figure(f"JPEG folder to trained step ({precision}) / usual loop (fp32), speed", against_usual, 2.5, False),
        Figure("JPEG folder / ready-made tensors, speed", against_ready, 0.9, False),
    ]


def decoding() -> list[Figure]:
    """Seconds to decode 50,000 small JPEGs, and of the next start."""
    with tempfile.TemporaryDirectory() as name:
        write_jpegs(Path(name) / "images", SMALL, 32, 32)

        def start() -> None:
            InMemoryImageFolder("images", name).setup()

        first, again = seconds(start), seconds(start)
    return [
        Figure(f"decoding {SMALL:,} small JPEGs, s", first, 60, at_most=True),
        Figure("the next start / the first", again / first, 0.5, at_most=True),
    ]


def streaming() -> Figure:
    """Images a second of streamed 500 x 375 JPEGs, against torchvision's reference pipeline with as many workers."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "images"
        write_jpegs(root, 800, 375, 500)
        steps = [
            torchvision.transforms.RandomResizedCrop(224),
            torchvision.transforms.RandomHorizontalFlip(),
            torchvision.transforms.PILToTensor(),
            torchvision.transforms.ConvertImageDtype(torch.float),
        ]
        reference = torchvision.datasets.ImageFolder(str(root / "train"), torchvision.transforms.Compose(steps))
        loader = DataLoader(reference, 64, shuffle=True, num_workers=WORKERS, persistent_workers=True, drop_last=True)
        flip = BatchRandomHorizontalFlip()
        data = StreamedImageFolder(
            "images", name, train_geometry=v2.RandomResizedCrop(224), num_workers=WORKERS, val_size=20, batch_size=64
        )
        data.setup()
        streamed = data.train_dataloader()

        def per_image(batches: Iterable[Any], ours: bool) -> float:
            count, started = 0, time.perf_counter()
            for batch in batches:
                images = data.on_after_batch_transfer(flip(batch[0]), 0) if ours else batch[0]
                count += len(images)
            return (time.perf_counter() - started) / count

        for batches in (loader, streamed):  # the workers start
            next(iter(batches))
        ratio = median_ratio(lambda: per_image(loader, False), lambda: per_image(streamed, True), pairs=9)
    return Figure("streamed 500 x 375 JPEGs / torchvision's reference pipeline, speed", ratio, 1, at_most=False)


def resident() -> Figure:
    """Peak memory of a process with the 60,000 images of CIFAR-10's size in memory, beyond that of a bare one."""
    code = (
        "import json, resource, sys, datamodules, lit_modules\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "bare = peak()\n"
        "data = datamodules.InMemoryImageFolder('images', sys.argv[1], val_size=5000, normalize=True)\n"
        "data.setup()\n"
        "for batch in data.train_dataloader(): data.on_after_batch_transfer(batch, 0)\n"
        "print(json.dumps(peak() - bare))"
    )
    with tempfile.TemporaryDirectory() as name:
        write_jpegs(Path(name) / "images", 60_000, 32, 32)
        command = [sys.executable, "-W", "ignore", "-c", code, name]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        peaks = [
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
            for _ in range(2)  # decoded, and from the cache
        ]
    return Figure("peak memory for 60,000 images of 32 x 32, MB", max(peaks), 600, at_most=True)
