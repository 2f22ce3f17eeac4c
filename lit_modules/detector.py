"""Object detection as a LightningModule.

It holds no trick; a trick is another detector, loss, optimizer, schedule, callback or transform.
"""

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchvision.ops import clip_boxes_to_image

from lit_modules.box_pictures import detection_pictures
from lit_modules.channels_last import to_channels_last
from lit_modules.detectors import Detector, DetectorEnsemble, Targets
from lit_modules.inference import BoxMerging, FusedBoxes, Inference, PixelRange
from lit_modules.inference.gather import gather_in_dataset_order
from lit_modules.inference.merging import Found
from lit_modules.initialization import Initialization
from lit_modules.metrics import COCOAveragePrecision
from lit_modules.optimizer_setup import ScheduleCallable, set_up_schedule
from lit_modules.padding import pad_boxes
from lit_modules.parameter_groups import ParameterGroups
from lit_modules.pictures import TaskPicture
from lit_modules.training_loss import LogsTrainingLoss

Batch = tuple[Tensor, Targets]


class LitDetector(LogsTrainingLoss):
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
        schedule: Makes the learning-rate schedule from the optimizer. If it has a parameter ``total_steps`` or
            ``T_max`` that is not given, that is the number of optimizer steps of the whole run. A schedule with
            ``total_steps``, given or not, or whose ``T_max`` is not given is stepped after every optimizer step; a
            `ReduceOnPlateau` after every epoch that validates; every other, such as ``StepLR``, after every epoch, so
            its arguments are in epochs. None keeps the rate constant.
        parameter_groups: Sorts the parameters into the optimizer's groups.
        channels_last: Keep images and convolution weights in channels-last order, faster on all common devices.
        metric: What is logged of ``val`` and ``test``, from detections and targets. None is `COCOAveragePrecision`.
        init: Draws the detector's initial weights. None leaves them as the detector made them.

    Attributes:
        inference: How test and predict score the detector. Replace it before testing to score in another way.
        predictions: After a test: ``"boxes"`` ``(N, D, 4)``, ``"scores"`` ``(N, D)`` and ``"labels"`` ``(N, D)``, -1
            where there is no box, on the CPU and in the order of the data set, on every rank.

    Raises:
        DivergedError: When a training epoch ends whose mean loss is NaN or infinite.
        ValueError: When the network is for another number of classes than the datamodule has, the schedule lacks an
            argument, it needs the number of steps but the run has no known one, or it waits for a metric but does not
            say for which or validation does not go by epochs.
    """

    scored_part = "detector"

    def __init__(
        self,
        detector: Detector,
        optimizer: OptimizerCallable,
        schedule: ScheduleCallable | None = None,
        parameter_groups: ParameterGroups = ParameterGroups(),  # noqa: B008 (frozen)
        channels_last: bool = True,
        metric: Metric | MetricCollection | None = None,
        init: Initialization | None = None,
    ) -> None:
        super().__init__()
        if init is not None:
            init(detector)
        self.detector = to_channels_last(detector) if channels_last else detector
        self.optimizer = optimizer
        self.schedule = schedule
        self.parameter_groups = parameter_groups
        self.channels_last = channels_last
        self.inference = Inference()
        self.predictions: dict[str, Tensor] = {}
        self._found: list[Found] = []
        self._pixel_range = PixelRange()
        metric = COCOAveragePrecision() if metric is None else metric
        self.val_metric, self.test_metric = metric.clone(), metric.clone()

    def setup(self, stage: str) -> None:
        classes = getattr(getattr(self.detector, "network", None), "num_classes", None)
        datamodule = getattr(self.trainer, "datamodule", None)
        expected = getattr(datamodule, "num_classes", None)
        if isinstance(classes, int) and expected not in (None, classes):
            raise ValueError(
                f"LitDetector: the network is for {classes} classes, but the datamodule has {expected}. Set the "
                f"network's num_classes to {expected}."
            )
        self._pixel_range = PixelRange(datamodule)

    def configure_optimizers(self) -> Any:
        return set_up_schedule(self, self.parameter_groups.make_optimizer(self, self.optimizer), self.schedule)

    def forward(self, images: Tensor) -> list[Found]:
        """Find the boxes of images ``(N, 3, H, W)``."""
        return self.detector(self._arrange(images))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        parts: dict[str, Tensor] = self.detector(self._arrange(images), targets)
        loss = torch.stack([*parts.values()]).sum()
        return self.count_loss(loss, len(images), parts)

    def on_validation_epoch_start(self) -> None:
        self.val_metric.reset()  # Lightning resets nothing after a validation that broke off

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        self.val_metric.update(self(images), targets)

    def on_validation_epoch_end(self) -> None:
        self._log_metric("val", self.val_metric)

    def on_test_epoch_start(self) -> None:
        self.test_metric.reset()
        self.predictions, self._found = {}, []

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        found = self._detect(images)
        self.test_metric.update(found, targets)
        self._found += found

    def on_test_epoch_end(self) -> None:
        self._log_metric("test", self.test_metric)
        most = torch.tensor(max((len(found["scores"]) for found in self._found), default=0), device=self.device)
        width = int(self.trainer.strategy.reduce(most, reduce_op="max"))
        padded, self._found = pad_boxes(self._found, width), []
        self.predictions = {name: gather_in_dataset_order(self.trainer, part).cpu() for name, part in padded.items()}

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> list[Found]:
        """Find the boxes of a batch, or of its images alone."""
        return self._detect(batch if isinstance(batch, Tensor) else batch[0])

    def combine(self, members: Sequence[Detector]) -> Detector:
        """Return a detector that finds what several find together."""
        return DetectorEnsemble(members, self._merging)

    def pictures(self, datamodule: L.LightningDataModule, most: int) -> list[TaskPicture]:
        """Show detections beside the truth for the first test images; see `ShowsPictures`."""
        return detection_pictures(self.predictions, datamodule, most)

    @property
    def _merging(self) -> BoxMerging:
        return FusedBoxes() if self.inference.merging is None else self.inference.merging

    def _detect(self, images: Tensor) -> list[Found]:
        """Find the boxes of each image as `inference` says."""
        found = self._detect_views(images)
        classifier = self.inference.classifier
        return found if classifier is None else classifier(self._pixel_range.restore(images), found)

    def _detect_views(self, images: Tensor) -> list[Found]:
        """Find the boxes of each image in all views of it, and merge them."""
        views = self.inference.views
        if views is None:
            return self(images)
        size = (images.shape[-2], images.shape[-1])
        merged = []
        for several in zip(*map(self, views.filled(images, self._pixel_range.black(images))), strict=True):
            restored = [
                {**found, "boxes": clip_boxes_to_image(views.restore_boxes(found["boxes"], view, size), size)}
                for view, found in enumerate(several)
            ]
            merged.append(self._merging(restored))
        return merged

    def _arrange(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def _log_metric(self, split: str, metric: Metric | MetricCollection) -> None:
        # computed here: Lightning cannot log a metric that computes several numbers; all ranks have the same ones
        self.log_dict(
            {f"{split}/{name}": value.float() for name, value in metric.compute().items()}, rank_zero_only=False
        )
        metric.reset()
