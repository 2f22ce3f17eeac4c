"""Image data sets that fit in memory: a batch is one indexing operation, augmentation runs on the training device.

The order of the batches is a function of (seed, epoch, rank) alone: it never reads the global random state, so that an
added callback cannot shift it and an interrupted training goes on with the batches that it would have seen. The random
draws of ``transforms`` and ``mixes`` do come from the global generators; whoever wants these to survive a restart
reseeds the generators at the start of every epoch.
"""

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from datamodules.images import Batch, InMemoryImages, channel_statistics


def batch_order_seed(seed: int) -> int:
    """Turn the seed of a training into that of its batch order, far from the one that the next seed gives.

    `DistributedSampler` adds the epoch to its seed. Without mixing, epoch 1 of seed 0 would be epoch 0 of seed 1.
    """
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)


def _identity(batch: Any) -> Any:
    return batch


class InMemoryDataModule(L.LightningDataModule, ABC):
    """Base of the data sets that fit in memory. A subclass says how to load the images and how to split them.

    On the training device a batch becomes float in [0, 1]; then, in training only, passes through ``transforms``; is
    normalized, if asked; and, in training only, is mixed by one of ``mixes``. Images stay contiguous: the memory format
    is the model's business.

    Training batches are all full: what is left of an epoch's shuffled images after the last full batch is not seen in
    that epoch, so that no step rests on a few images. Evaluation counts every image exactly once, on any number of
    processes.

    Example::

        class Mine(InMemoryDataModule):
            class_names = ("cat", "dog")
            image_shape = (3, 32, 32)

            def load(self):
                return InMemoryImages(images, targets)

            def split(self, targets):
                return {"train": torch.arange(800), "val": torch.arange(800, 900), "test": torch.arange(900, 1000)}

    Args:
        batch_size: Training images a step in each process.
        eval_batch_size: Images a batch in validation, test and prediction, in each process.
        transforms: Modules from float images ``(N, C, H, W)`` in [0, 1] to the same, drawing for each image apart.
        mixes: Modules from images ``(N, C, H, W)`` and targets ``(N,)`` to images and soft targets ``(N, classes)``,
            such as `torchvision.transforms.v2.MixUp`; each batch passes through one of them, picked at random.
        mix_off_epochs: Number of epochs at the end of training without ``mixes``.
        normalize: Subtract the mean and divide by the standard deviation of the training images, by channel.

    Raises:
        ValueError: If a size is below 1 or ``mix_off_epochs`` is negative.
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
    ) -> None:
        super().__init__()
        bounds = [("batch_size", batch_size, 1), ("eval_batch_size", eval_batch_size, 1)]
        bounds += [("mix_off_epochs", mix_off_epochs, 0)]
        problems = [f"{name}={value} must be at least {least}" for name, value, least in bounds if value < least]
        if problems:
            raise ValueError(f"{type(self).__name__}: {'; '.join(problems)}.")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.transforms = list(transforms)
        self.mixes = list(mixes)
        self.mix_off_epochs = mix_off_epochs
        self.normalize = normalize
        self.sets: dict[str, InMemoryImages] = {}
        self._seed = torch.initial_seed()  # read here: callbacks may reseed the global generator later
        self._statistics: tuple[Tensor, Tensor] | None = None
        self._fingerprint: str | None = None

    @abstractmethod
    def load(self) -> InMemoryImages:
        """Read all images of the data set, always in the same order."""

    @abstractmethod
    def split(self, targets: Tensor) -> dict[str, Tensor]:
        """Choose the indices of the images of ``train``, ``val`` and ``test``.

        Args:
            targets: Classes of all images, ``(N,)``, in the order of `load`.
        """

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def fingerprint(self) -> str:
        """SHA-256 of all images and targets of the data set, whichever of them are trained on."""
        if self._fingerprint is None:
            source = self.load()
            digest = hashlib.sha256(f"{tuple(source.images.shape)}".encode())
            for array in (source.images, source.targets):
                digest.update(array.contiguous().numpy().data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def setup(self, stage: str | None = None) -> None:
        """Load and split the images, once for all stages.

        Raises:
            ValueError: If the end of training is unknown to ``mix_off_epochs``, or ``normalize`` meets a channel
                without variance.
        """
        if not self.sets:
            source = self.load()
            self.sets = {name: source.subset(indices) for name, indices in self.split(source.targets).items()}
        if self.normalize and self._statistics is None:
            self._statistics = self._training_statistics()
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

    def train_dataloader(self) -> DataLoader[Batch]:
        """Full batches in an order that (seed, epoch, rank) decide.

        Raises:
            ValueError: If the training images do not fill one batch on every process.
        """
        images, (processes, rank) = self.sets["train"], self._world()
        if len(images) < self.batch_size * processes:
            raise ValueError(
                f"{len(images)} training images do not fill one batch of batch_size={self.batch_size} on each of "
                f"{processes} process(es). Set batch_size to at most {len(images) // processes}."
            )
        # Without a seed set, each process has drawn its own: all follow the first.
        seed = self._seed if self.trainer is None else self.trainer.strategy.broadcast(self._seed)
        sampler: DistributedSampler = DistributedSampler(
            images, num_replicas=processes, rank=rank, shuffle=True, seed=batch_order_seed(seed), drop_last=True
        )
        return self._loader(images, self.batch_size, sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._eval_dataloader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._eval_dataloader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test images."""
        return self._eval_dataloader("test")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Make of a uint8 batch what the model sees."""
        images, targets = batch
        training = self.trainer is not None and bool(self.trainer.training)
        images = images.float() / 255
        if training:
            for transform in self.transforms:
                images = transform(images)
        if self._statistics is not None:
            # Kept on the device, so that only the first batch waits for the copy.
            mean, sd = self._statistics
            self._statistics = mean, sd = mean.to(images.device), sd.to(images.device)
            images = (images - mean) / sd
        if training and self._mixing():
            images, targets = self.mixes[int(torch.randint(len(self.mixes), ()))](images, targets)
        if self.trainer is not None:
            images, targets = self.trainer.precision_plugin.convert_input((images, targets))
        return images, targets

    def _mixing(self) -> bool:
        if not self.mixes or not self.mix_off_epochs:
            return bool(self.mixes)
        assert self.trainer is not None and self.trainer.max_epochs is not None  # `setup` checked it
        return self.trainer.current_epoch < self.trainer.max_epochs - self.mix_off_epochs

    def _training_statistics(self) -> tuple[Tensor, Tensor]:
        mean, sd = channel_statistics(self.sets["train"].images)
        constant = (sd.flatten() == 0).nonzero().flatten().tolist()
        if constant:
            raise ValueError(f"normalize=True, but the training images do not vary in channel(s) {constant}.")
        return mean, sd

    def _eval_dataloader(self, name: str) -> DataLoader[Batch]:
        images, (processes, rank) = self.sets[name], self._world()
        if len(images) < processes:
            raise ValueError(f"{len(images)} {name} images do not give one to each of {processes} processes.")
        sampler = UnrepeatedDistributedSampler(images, num_replicas=processes, rank=rank, shuffle=False)
        return self._loader(images, self.eval_batch_size, sampler, drop_last=False)

    def _loader(
        self, images: InMemoryImages, batch_size: int, sampler: DistributedSampler, drop_last: bool
    ) -> DataLoader[Batch]:
        # Lightning advises to add workers. A batch costs less here than its way out of a worker would.
        warnings.filterwarnings("ignore", r"The '\w+' does not have many workers", category=PossibleUserWarning)
        on_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            images,
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=_identity,
            drop_last=drop_last,
            pin_memory=on_cuda,
            generator=torch.Generator(),  # else every pass over a loader draws from the global generator
        )

    def _world(self) -> tuple[int, int]:
        """Number of processes, and the rank of this one."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
