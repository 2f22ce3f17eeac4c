"""What all image data sets share: the order of the batches, and what the training device makes of a batch.

The order of the batches is a function of (seed, epoch, rank) alone: it never reads the global random state, so that an
added callback cannot shift it and an interrupted training goes on with the batches that it would have seen. The random
draws of ``transforms`` and ``mixes`` do come from the global generators; whoever wants these to survive a restart
reseeds the generators at the start of every epoch.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from datamodules.images import Batch, checked_statistics, normalized_range
from datamodules.samplers import TrainingSampler, batch_order_seed
from datamodules.transforms.fitted import FittedTransform

_UNLABELED = 1  # the stream of the order of the unlabeled images


class LabeledImages(Protocol):
    """A data set whose targets are known without reading an image."""

    targets: Tensor

    def __len__(self) -> int: ...


def check_full_batch(count: int, batch_size: int, processes: int, kind: str = "training") -> None:
    """Refuse images that are too few.

    Args:
        count: How many there are.
        batch_size: Images a step in each process.
        processes: How many read them.
        kind: What the images are for.

    Raises:
        ValueError: If they do not fill one batch on every process.
    """
    if count < batch_size * processes:
        raise ValueError(
            f"{count} {kind} images do not fill one batch of batch_size={batch_size} on each of "
            f"{processes} process(es). Set batch_size to at most {count // processes}."
        )


class ImageDataModule(L.LightningDataModule, ABC):
    """Base of the image data sets. A subclass says which images are in each part and how a loader reads them.

    A loader's batches are uint8. On the training device a batch becomes float in [0, 1]; then, in training only, passes
    through ``transforms``; is normalized, if asked; and, in training only, is mixed by one of ``mixes``. Images stay
    contiguous: the memory format is the model's business.

    Training batches are all full: what is left of an epoch's shuffled images after the last full batch is not seen in
    that epoch, so that no step rests on a few images. Evaluation counts every image exactly once, on any number of
    processes.

    Args:
        batch_size: Training images a step in each process.
        eval_batch_size: Images a batch in validation, test and prediction, in each process.
        transforms: Modules from float images ``(N, C, H, W)`` in [0, 1] to the same, drawing for each image apart. The
            first of them that have ``moves_pixels`` true put pixels elsewhere, or zeros, and get uint8 images.
        mixes: Modules from images ``(N, C, H, W)`` and targets ``(N,)`` to images and soft targets ``(N, classes)``,
            such as `torchvision.transforms.v2.MixUp`; each batch passes through one of them, picked at random.
        mix_off_epochs: Number of epochs at the end of training without ``mixes``.
        normalize: Subtract the mean and divide by the standard deviation of the training images, by channel.
        class_balanced: Draw every class equally often in training, however many images it has.
        train_fraction: Share of each class's training images that is used: the first in the order of the split.

    Raises:
        ValueError: If a size is below 1, ``mix_off_epochs`` is negative or ``train_fraction`` not in (0, 1].
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]

    def __init__(
        self,
        batch_size: int = 128,
        eval_batch_size: int = 512,
        transforms: Sequence[nn.Module] = (),
        mixes: Sequence[nn.Module] = (),
        mix_off_epochs: int = 0,
        normalize: bool = False,
        class_balanced: bool = False,
        train_fraction: float = 1.0,
    ) -> None:
        super().__init__()
        bounds = [("batch_size", batch_size, 1), ("eval_batch_size", eval_batch_size, 1)]
        bounds += [("mix_off_epochs", mix_off_epochs, 0)]
        problems = [f"{name}={value} must be at least {least}" for name, value, least in bounds if value < least]
        if not 0 < train_fraction <= 1:
            problems.append(f"train_fraction={train_fraction} must be above 0 and at most 1")
        if problems:
            raise ValueError(f"{type(self).__name__}: {'; '.join(problems)}.")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.transforms = list(transforms)
        self.mixes = list(mixes)
        self.mix_off_epochs = mix_off_epochs
        self.normalize = normalize
        self.class_balanced = class_balanced
        self.train_fraction = train_fraction
        self.sets: dict[str, Any] = {}
        self._seed = torch.initial_seed()  # read here: callbacks may reseed the global generator later
        self._statistics: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def make_sets(self) -> dict[str, Any]:
        """Make the data sets ``train``, ``val`` and ``test``; each has ``targets``, ``(N,)``."""

    @abstractmethod
    def measured_images(self) -> Tensor:
        """Return the training images on which statistics are measured, ``(N, C, H, W)`` uint8."""

    @abstractmethod
    def make_loader(
        self, images: Any, batch_size: int, sampler: DistributedSampler, drop_last: bool, labeled: bool = True
    ) -> DataLoader[Any]:
        """Make a loader whose batches are uint8 images ``(B, C, H, W)`` and targets ``(B,)``, or images alone."""

    @abstractmethod
    def make_unlabeled(self) -> Any:
        """Make the data set of the images that would be for training but whose labels are not used."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def pixel_range(self) -> Tensor | None:
        """What a black and a white pixel are for the model, by channel, ``(2, C)``; None as long as they are 0 and 1.

        Whatever moves pixels once they are normalized fills with black, which then is not zero.
        """
        return None if self._statistics is None else normalized_range(*self._statistics)

    def setup(self, stage: str | None = None) -> None:
        """Make the data sets, once for all stages.

        Raises:
            ValueError: If a label is out of range, the end of training is unknown to ``mix_off_epochs``, or
                ``normalize`` meets a channel without variance.
        """
        if not self.sets:
            sets = self.make_sets()
            for name, images in sets.items():
                self._check_labels(name, images.targets)
            self.sets = sets
            if fitted := [transform for transform in self.transforms if isinstance(transform, FittedTransform)]:
                images = self.measured_images()
                for transform in fitted:
                    transform.fit(images)
        if self.normalize and self._statistics is None:
            self._statistics = checked_statistics(self.measured_images())
        if (
            stage == "fit"
            and self.mix_off_epochs
            and self.trainer is not None
            and self.trainer.max_epochs in (None, -1)
        ):
            raise ValueError(
                f"mix_off_epochs={self.mix_off_epochs} counts back from the last epoch, but the trainer has "
                f"max_epochs={self.trainer.max_epochs}. Set max_epochs, or mix_off_epochs to 0."
            )

    def known_training_targets(self) -> Tensor | None:
        """Targets of the training images, ``(N,)``, if they are known without reading an image, and else None.

        Raises:
            ValueError: If there are fewer images than asked for, or a label is out of range.
        """
        return None

    def find_problems(self, processes: int) -> list[str]:
        """Say why these data cannot be trained on, a sentence or two for each reason, before anything trains.

        It is what `setup` and the training loader would refuse, as far as it shows without reading an image.

        Args:
            processes: Number of processes of the training.

        Raises:
            ValueError: If the images cannot even be split into parts.
        """
        targets = self.known_training_targets()
        try:
            if targets is not None:
                check_full_batch(len(targets), self.batch_size, processes)
        except ValueError as error:
            return [str(error)]
        return []

    def train_dataloader(self) -> DataLoader[Batch]:
        """Full batches in an order that (seed, epoch, rank) decide.

        Raises:
            ValueError: If the training images do not fill one batch on every process.
        """
        sampler = self._training_sampler("training", self.sets["train"], self.batch_size, self.class_balanced)
        return self.make_loader(self.sets["train"], self.batch_size, sampler, drop_last=True)

    def unlabeled_dataloader(self, batch_size: int | None = None) -> DataLoader[Tensor] | None:
        """Full batches of the images whose labels are not used, without any, in an order of their own; None without.

        `on_after_batch_transfer` makes of such a batch, a uint8 tensor ``(B, C, H, W)``, what the model sees.

        Args:
            batch_size: Images a batch in each process; by default as many as in training.

        Raises:
            ValueError: If these images do not fill one batch on every process.
        """
        size = batch_size or self.batch_size
        if "unlabeled" not in self.sets:
            self.sets["unlabeled"] = self.make_unlabeled()
        if not len(self.sets["unlabeled"]):
            return None
        sampler = self._training_sampler("unlabeled", self.sets["unlabeled"], size, False, stream=_UNLABELED)
        return self.make_loader(self.sets["unlabeled"], size, sampler, drop_last=True, labeled=False)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.eval_dataloader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.eval_dataloader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test images."""
        return self.eval_dataloader("test")

    def on_after_batch_transfer(self, batch: Batch | Tensor, dataloader_idx: int) -> Any:
        """Make of a uint8 batch, or of its images alone, what the model sees."""
        images, targets = (batch, None) if isinstance(batch, Tensor) else batch
        training = self.trainer is not None and bool(self.trainer.training)
        transforms = self.transforms if training else []
        moves = list(takewhile(lambda transform: getattr(transform, "moves_pixels", False), transforms))
        for transform in moves:  # while pixels are bytes: floats are four times the memory, and the values are the same
            images = transform(images)
        images = images.to(torch.float32, copy=True).div_(255)
        for transform in transforms[len(moves) :]:
            images = transform(images)
        if self._statistics is not None:
            # Kept on the device, so that only the first batch waits for the copy.
            mean, sd = self._statistics
            self._statistics = mean, sd = mean.to(images.device), sd.to(images.device)
            images = images.sub(mean).div_(sd)
        if training and targets is not None and self._mixing():
            images, targets = self.mixes[int(torch.randint(len(self.mixes), ()))](images, targets)
        made = images if targets is None else (images, targets)
        return made if self.trainer is None else self.trainer.precision_plugin.convert_input(made)

    def _mixing(self) -> bool:
        if not self.mixes or not self.mix_off_epochs:
            return bool(self.mixes)
        assert self.trainer is not None and self.trainer.max_epochs is not None  # `setup` checked it
        return self.trainer.current_epoch < self.trainer.max_epochs - self.mix_off_epochs

    def _check_labels(self, name: str, targets: Tensor) -> None:
        wrong = ((targets < 0) | (targets >= self.num_classes)).nonzero().flatten()
        if len(wrong):
            raise ValueError(
                f"{type(self).__name__}: {len(wrong)} {name} label(s) are out of range, the first is "
                f"{int(targets[wrong[0]])}. Labels must be from 0 to {self.num_classes - 1}."
            )

    def _training_sampler(
        self, kind: str, images: LabeledImages, batch_size: int, class_balanced: bool, stream: int | None = None
    ) -> TrainingSampler:
        processes, rank = self._world()
        check_full_batch(len(images), batch_size, processes, kind)
        seed = batch_order_seed(self._shared_seed(), stream)
        sampler = self.make_sampler(images.targets, processes, rank, seed, class_balanced)
        sampler.set_epoch(self._first_epoch())
        return sampler

    def make_sampler(
        self, targets: Tensor, processes: int, rank: int, seed: int, class_balanced: bool
    ) -> TrainingSampler:
        """Make the sampler of training images."""
        return TrainingSampler(targets, processes, rank, seed, class_balanced)

    def eval_dataloader(self, name: str) -> DataLoader[Batch]:
        """All images of ``train``, ``val`` or ``test`` once, in order; in evaluation they are not augmented."""
        images, (processes, rank) = self.sets[name], self._world()
        if len(images) < processes:
            raise ValueError(f"{len(images)} {name} images do not give one to each of {processes} processes.")
        sampler = UnrepeatedDistributedSampler(images, num_replicas=processes, rank=rank, shuffle=False)
        return self.make_loader(images, self.eval_batch_size, sampler, drop_last=False)

    def _first_epoch(self) -> int:
        """Epoch with which the trainer goes on.

        Lightning 2.6.6 tells the sampler only once it has made the loader's iterator. Workers have asked for their
        first batches by then, so that a resumed training would see those of epoch 0 again.
        """
        fit_loop = getattr(self.trainer, "fit_loop", None)
        return 0 if fit_loop is None else fit_loop.epoch_progress.current.processed

    def _shared_seed(self) -> int:
        """Seed of the first process: without one set, each has drawn its own."""
        return self._seed if self.trainer is None else self.trainer.strategy.broadcast(self._seed)

    def _on_cuda(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _world(self) -> tuple[int, int]:
        """Number of processes, and the rank of this one."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
