"""Image classification as a LightningModule.

A step asks nothing of the device: losses add up on it and are read once an epoch. The module holds no trick; a trick
is another network, loss, optimizer, schedule, callback or inference.
"""

import contextlib
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torchmetrics import MetricCollection

from lit_modules.channels_last import to_channels_last
from lit_modules.distillation import Distillation
from lit_modules.inference import Inference, PixelRange
from lit_modules.inference.gather import gather_in_dataset_order
from lit_modules.initialization import Initialization
from lit_modules.losses import HeadCallable, replace_last_layer
from lit_modules.losses.margin_head import find_heads
from lit_modules.losses.targets import LearnsFrequencies
from lit_modules.metrics import SampleMean, SingleLabelMetrics
from lit_modules.mistakes import mistake_pictures
from lit_modules.optimizer_setup import ScheduleCallable, set_up_schedule
from lit_modules.outputs import Outputs, SoftmaxOutputs
from lit_modules.parameter_groups import ParameterGroups
from lit_modules.pictures import TaskPicture
from lit_modules.training_loss import LogsTrainingLoss

Batch = tuple[Tensor, Tensor]


class LitClassifier(LogsTrainingLoss):
    """Trains and scores a network that assigns one of K classes, or several of K labels, to each image.

    A batch is a pair of images ``(N, C, H, W)`` and targets, which are labels ``(N,)`` or, for mixed images, class
    weights ``(N, K)``. Logs ``train/loss``, ``val/loss``, ``val/accuracy``, ``test/loss`` and ``test/accuracy``, each
    the mean over an epoch's samples. ``train/loss`` is logged in ``on_train_epoch_end``, which Lightning calls
    after the callbacks' hook of that name, except for those that monitor, such as checkpoints and early stopping.
    ``val/loss`` and ``test/loss`` are the negative log-likelihood of the targets, as ``outputs`` has it, and never what
    is trained by: no smoothing, weights, margin or teacher changes what they measure, so they compare trainings.

    For images of several labels the targets are zeros and ones ``(N, K)``; set ``loss``, ``outputs`` and ``metrics``
    to what fits them, such as `BinaryCrossEntropy`, `SigmoidOutputs` and `MultiLabelMetrics`.

    Example::

        module = LitClassifier(
            network=ResNet(num_classes=10, layers=[3, 3, 3], block="basic", width=16, stem="small"),
            loss=nn.CrossEntropyLoss(),
            optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-4),
            schedule=torch.optim.lr_scheduler.CosineAnnealingLR,
        )

    Args:
        network: Maps images to class scores ``(N, K)``.
        loss: Maps scores and targets to a scalar, the mean over the batch. It trains, and scores nothing.
        optimizer: Makes the optimizer from the parameter groups.
        schedule: Makes the learning-rate schedule from the optimizer. If it has a parameter ``total_steps`` or
            ``T_max`` that is not given, that is the number of optimizer steps of the whole run. A schedule with
            ``total_steps``, given or not, or whose ``T_max`` is not given is stepped after every optimizer step; a
            `ReduceOnPlateau` after every epoch that validates; every other, such as ``StepLR``, after every epoch, so
            its arguments are in epochs. None keeps the rate constant.
        parameter_groups: Sorts the parameters of network and loss into the optimizer's groups.
        channels_last: Keep images and convolution weights in channels-last order, faster on all common devices.
        compile: Compile the network with ``torch.compile``. Names of parameters stay as they are.
        init: Draws the network's initial weights. None leaves them as the network made them.
        head: Makes a layer with a margin, such as `ArcFace`, that takes the place of the network's last linear layer,
            from the length of the features and the number of classes. None leaves the network as it is.
        outputs: How scores become probabilities, and which loss validation and test log. None is the softmax.
        metrics: What is logged of ``val`` and ``test`` beside the loss. None is the accuracy.
        distillation: A teacher whose part is added to the loss in training.

    Attributes:
        inference: How test and predict score the network. Replace it before testing to score in another way.
        predictions: After a test: ``"probabilities"`` ``(N, K)`` in float32 and ``"targets"``, on the CPU and in the
            order of the data set, on every rank.

    Raises:
        DivergedError: When a training epoch ends whose mean loss is NaN or infinite.
        ValueError: When the first batch shows that the network's outputs are not as many as the datamodule's classes,
            when the schedule lacks an argument, when it needs the number of steps but the run has no known one, when
            it waits for a metric but does not say for which or validation does not go by epochs, when the loss needs
            the training targets but the training data does not have them as ``targets``, or if a teacher is to guide
            outputs that are no softmax.
    """

    scored_part = "network"

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: OptimizerCallable,
        schedule: ScheduleCallable | None = None,
        parameter_groups: ParameterGroups = ParameterGroups(),  # noqa: B008 (frozen)
        channels_last: bool = True,
        compile: bool = False,
        init: Initialization | None = None,
        head: HeadCallable | None = None,
        outputs: Outputs | None = None,
        metrics: MetricCollection | None = None,
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__()
        if distillation is not None and not isinstance(outputs, SoftmaxOutputs | None):
            raise ValueError(
                f"LitClassifier: distillation is for the softmax of the scores, but outputs is "
                f"{type(outputs).__name__}. Leave out one of the two."
            )
        if head is not None:
            replace_last_layer(network, head)
        if init is not None:
            init(network)
        self.network = to_channels_last(network) if channels_last else network
        if compile:
            self.network.compile()
        self.loss = loss
        self.optimizer = optimizer
        self.schedule = schedule
        self.parameter_groups = parameter_groups
        self.channels_last = channels_last
        self.outputs = SoftmaxOutputs() if outputs is None else outputs
        self.distillation = distillation
        self._heads = find_heads(network)

        self.inference = Inference()
        self.predictions: dict[str, Tensor] = {}
        self._test_outputs: list[Batch] = []
        self._expected_classes: int | None = None
        self._pixel_range = PixelRange()

        metrics = SingleLabelMetrics() if metrics is None else metrics
        self.val_loss, self.val_metrics = SampleMean(), metrics.clone(prefix="val/")
        self.test_loss, self.test_metrics = SampleMean(), metrics.clone(prefix="test/")

    def setup(self, stage: str) -> None:
        datamodule = getattr(self.trainer, "datamodule", None)
        self._expected_classes = getattr(datamodule, "num_classes", None)
        self._pixel_range = PixelRange(datamodule)

    def configure_optimizers(self) -> Any:
        optimizer = self.parameter_groups.make_optimizer(self, self.optimizer)
        return set_up_schedule(self, optimizer, self.schedule)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to class scores ``(N, K)`` in float32."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        scores = self.network(images).float()
        if self._expected_classes is not None:
            self._check_number_of_classes(scores.shape[-1])
        return scores

    def on_fit_start(self) -> None:
        if self.distillation is not None:
            self.distillation.load_teacher(self.device, self.trainer.precision_plugin.convert_module)

    def on_fit_end(self) -> None:
        if self.distillation is not None:
            self.distillation.release_teacher()

    def on_train_start(self) -> None:
        for part in self.loss.modules():
            if isinstance(part, LearnsFrequencies):
                part.learn_frequencies(self._find_training_targets(part))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        with contextlib.ExitStack() as margins:
            for head in self._heads:
                margins.enter_context(head.aim(targets))
            scores = self(images)
        loss = self.loss(scores, targets)
        if self.distillation is not None:
            loss = loss + self.distillation(images, scores)
        return self.count_loss(loss, len(images))

    def on_validation_epoch_start(self) -> None:
        self.val_loss.reset()  # Lightning resets metrics only after a validation that reached its end
        self.val_metrics.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        scores = self(images)
        self.val_loss.update(self.outputs.negative_log_likelihood(scores, targets).sum(), len(images))
        self.val_metrics.update(scores, targets)

    def on_validation_epoch_end(self) -> None:
        self.log_dict({"val/loss": self.val_loss, **dict(self.val_metrics.items())})

    def on_test_epoch_start(self) -> None:
        self.test_loss.reset()
        self.test_metrics.reset()
        self.predictions = {}
        self._test_outputs = []

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        scores = self._score_views(images)
        self.test_loss.update(self.outputs.negative_log_likelihood(scores, targets).sum(), len(images))
        self.test_metrics.update(scores, targets)
        self._test_outputs.append((self.outputs.probabilities(scores), targets))

    def on_test_epoch_end(self) -> None:
        self.log_dict({"test/loss": self.test_loss, **dict(self.test_metrics.items())})
        probabilities, targets = (torch.cat(parts) for parts in zip(*self._test_outputs, strict=True))
        self._test_outputs = []
        outputs = {"probabilities": probabilities, "targets": targets}
        self.predictions = {name: gather_in_dataset_order(self.trainer, part).cpu() for name, part in outputs.items()}

    def pictures(self, datamodule: L.LightningDataModule, most: int) -> list[TaskPicture]:
        """Show the test images that the last test got most surely wrong; see `ShowsPictures`."""
        return mistake_pictures(self.predictions["probabilities"], self.predictions["targets"], datamodule, most)

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Tensor:
        """Map a batch, or its images alone, to class probabilities ``(N, K)``."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        return self.outputs.probabilities(self._score_views(images))

    def _score_views(self, images: Tensor) -> Tensor:
        """Map images to scores ``(N, K)`` whose probabilities are the mean of the views' probabilities."""
        if self.inference.views is None:
            return self(images)
        views = self.inference.views.filled(images, self._pixel_range.black(images))
        return self.outputs.average(torch.stack([self(view) for view in views]))

    def _find_training_targets(self, loss: object) -> Tensor:
        """Return the targets of all training samples, which data sets keep as ``targets`` by custom."""
        loader = self.trainer.train_dataloader
        targets = getattr(getattr(loader, "dataset", None), "targets", None)
        if targets is None:
            raise ValueError(
                f"LitClassifier: {type(loss).__name__} needs the targets of all training samples, but the training "
                f"data has no 'targets'. Give the data set this attribute, labels (N,) as torchvision's have it."
            )
        return torch.as_tensor(targets)

    def _check_number_of_classes(self, width: int) -> None:
        """Compare the width of the first scores with the datamodule's number of classes; once a stage is enough."""
        expected, self._expected_classes = self._expected_classes, None
        if width != expected:
            raise ValueError(
                f"LitClassifier: the network has {width} outputs, but the datamodule has {expected} classes. "
                f"Set the network's num_classes to {expected}."
            )
