"""Object detection as a LightningModule.

It holds no trick; a trick is another detector, loss, optimizer, schedule, callback or transform.
"""

import math
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric, MetricCollection

from lit_modules.detectors import Detector, Targets
from lit_modules.divergence import DivergedError
from lit_modules.metrics import COCOAveragePrecision, SampleMean
from lit_modules.models.detection import Detections
from lit_modules.parameter_groups import ParameterGroups

ScheduleCallable = Callable[[Optimizer, int], LRScheduler]
Batch = tuple[Tensor, Targets]


class LitDetector(L.LightningModule):
    """Trains and scores a network that finds the boxes of objects, and their classes.

    A batch is images ``(N, 3, H, W)`` and padded targets, as `Detector` has them. Logs ``train/loss``, the mean over an
    epoch's images, and each of its parts as ``train/loss_<part>``; of validation and test what ``metric`` computes,
    such as ``val/map`` and ``test/map_50``.

    Example::

        module = LitDetector(
            detector=YOLODetector(YOLOv3(num_classes=10, backbone=Darknet([1, 1, 1, 1, 1], 8), input_size=96)),
            optimizer=partial(torch.optim.SGD, lr=1e-3, momentum=0.9, weight_decay=5e-4),
            schedule=torch.optim.lr_scheduler.CosineAnnealingLR,
        )

    Args:
        detector: What is trained.
        optimizer: Makes the optimizer from the parameter groups.
        schedule: Makes the learning-rate schedule from the optimizer and the number of optimizer steps of the whole
            run; it is stepped after every optimizer step. None keeps the rate constant.
        parameter_groups: Sorts the parameters into the optimizer's groups.
        channels_last: Keep images and convolution weights in channels-last order, faster on all common devices.
        metric: What is logged of ``val`` and ``test``, from detections and targets. None is `COCOAveragePrecision`.

    Raises:
        DivergedError: When a training epoch ends whose mean loss is NaN or infinite.
        ValueError: When there is a schedule but the run has no known number of steps, or the schedule waits for a
            metric.
    """

    def __init__(
        self,
        detector: Detector,
        optimizer: OptimizerCallable,
        schedule: ScheduleCallable | None = None,
        parameter_groups: ParameterGroups = ParameterGroups(),  # noqa: B008 (frozen)
        channels_last: bool = True,
        metric: Metric | MetricCollection | None = None,
    ) -> None:
        super().__init__()
        self.detector = detector.to(memory_format=torch.channels_last) if channels_last else detector
        self.optimizer = optimizer
        self.schedule = schedule
        self.parameter_groups = parameter_groups
        self.channels_last = channels_last
        metric = COCOAveragePrecision() if metric is None else metric
        self.train_loss = SampleMean()
        self.val_metric, self.test_metric = metric.clone(), metric.clone()

    def configure_optimizers(self) -> Any:
        optimizer = self.parameter_groups.make_optimizer(self, self.optimizer)
        if self.schedule is None:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < math.inf:
            raise ValueError(
                f"LitDetector: the schedule needs the number of optimizer steps of the run, but the trainer says "
                f"{steps}. Set max_epochs, or max_steps if the data has no length; or use no schedule."
            )
        scheduler = self.schedule(optimizer, int(steps))
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError(
                f"LitDetector: the schedule {type(scheduler).__name__} waits for a metric. Use one that goes by steps."
            )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def forward(self, images: Tensor) -> list[Detections]:
        """Find the boxes of images ``(N, 3, H, W)``."""
        return self.detector(self._arrange(images))

    def on_train_epoch_start(self) -> None:
        self.train_loss.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        parts = self.detector(self._arrange(images), targets)
        loss = torch.stack([*parts.values()]).sum()
        self.train_loss.update(loss.detach() * len(images), len(images))
        means = {f"train/loss_{name}": part.detach() for name, part in parts.items()}
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    def on_train_epoch_end(self) -> None:
        if not self.train_loss.update_called:
            return  # resumed at the very end of an epoch
        loss = self.train_loss.compute().item()
        if not math.isfinite(loss):
            raise DivergedError(self.current_epoch, loss)
        self.log("train/loss", self.train_loss)

    def on_validation_epoch_start(self) -> None:
        self.val_metric.reset()  # Lightning resets nothing after a validation that broke off

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        self.val_metric.update(self(images), targets)

    def on_validation_epoch_end(self) -> None:
        self._log_metric("val", self.val_metric)

    def on_test_epoch_start(self) -> None:
        self.test_metric.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        self.test_metric.update(self(images), targets)

    def on_test_epoch_end(self) -> None:
        self._log_metric("test", self.test_metric)

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> list[Detections]:
        """Find the boxes of a batch, or of its images alone."""
        return self(batch if isinstance(batch, Tensor) else batch[0])

    def _arrange(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def _log_metric(self, split: str, metric: Metric | MetricCollection) -> None:
        # computed here: Lightning cannot log a metric that computes several numbers; all ranks have the same ones
        self.log_dict(
            {f"{split}/{name}": value.float() for name, value in metric.compute().items()}, rank_zero_only=False
        )
        metric.reset()
