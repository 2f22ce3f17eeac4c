"""What the losses of a detector cost beside its network, and how long the mAP of COCO's validation images takes."""

import time

import torch
from torch import Tensor

from lit_modules.metrics import COCOAveragePrecision
from lit_modules.models import Darknet, YOLOv3, YOLOv3Loss
from lit_modules.models.detection import YOLOOutputs
from tests.benchmarks.report import Figure

BATCH, SIZE, BOXES, STEPS = 16, 416, 20, 3
IMAGES, FOUND, CLASSES, SIDE = 5_000, 30, 80, 640
THREADS = 2


def random_targets(images: int, boxes: int, classes: int, side: int) -> dict[str, Tensor]:
    corners = torch.rand(images, boxes, 2) * side * 0.7
    sides = torch.rand(images, boxes, 2) * side * 0.3
    labels = torch.randint(classes, (images, boxes))
    return {"boxes": torch.cat([corners, corners + sides], -1), "labels": labels}


def detection_losses() -> Figure:
    """Seconds of assignment and losses, forward and backward, as a share of a training step of a small network.

    A larger network only makes the share smaller.
    """
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    network, loss = YOLOv3(20, Darknet([1, 1, 1, 1, 1], 16)), YOLOv3Loss()
    network.to(memory_format=torch.channels_last)
    images = torch.rand(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    targets = random_targets(BATCH, BOXES, 20, SIZE)
    whole = part = float("inf")
    for _ in range(STEPS):
        started = time.perf_counter()
        outputs = network(images)
        raw = outputs.raw.detach().requires_grad_()
        before = time.perf_counter()
        torch.stack([*loss(YOLOOutputs(raw, outputs.grid), targets).values()]).sum().backward()
        after = time.perf_counter()
        outputs.raw.backward(raw.grad)
        whole, part = min(whole, time.perf_counter() - started), min(part, after - before)
    return Figure(
        "assignment and losses of a detector, batch 16 at 416x416, share of a step", part / whole, 0.2, at_most=True
    )


def coco_map() -> Figure:
    """Seconds of the mAP of as many images as COCO has for validation."""
    torch.manual_seed(0)
    metric = COCOAveragePrecision()
    started = time.perf_counter()
    for _ in range(0, IMAGES, 50):
        targets = random_targets(50, 7, CLASSES, SIDE)
        found = random_targets(50, FOUND, CLASSES, SIDE)
        found["boxes"][:, :7] = targets["boxes"] + torch.rand(50, 7, 4) * 10
        found["labels"][:, :7] = targets["labels"]
        scores = torch.rand(50, FOUND)
        metric.update(
            [
                {"boxes": found["boxes"][image], "scores": scores[image], "labels": found["labels"][image]}
                for image in range(50)
            ],
            targets,
        )
    metric.compute()
    return Figure(f"mAP of {IMAGES:,} images, s", time.perf_counter() - started, 30, at_most=True)
