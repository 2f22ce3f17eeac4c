"""What all detection data sets share: the order of the batches, and what the training device makes of a batch."""

import hashlib
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence

import lightning as L
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from datamodules.detection.annotations import AnnotatedImages
from datamodules.detection.detection_images import Batch, DetectionImages
from datamodules.images import checked_statistics, normalized_range
from datamodules.loaders import make_decoding_loader
from datamodules.samplers import TrainingSampler, batch_order_seed

_COARSEST_STRIDE = 32
_MOST_MEASURED = 1000


class DetectionDataModule(L.LightningDataModule, ABC):
    """Base of the detection data sets. A subclass says which images and boxes are in each part.

    A batch is images ``(N, 3, input_size, input_size)``, float in [0, 1] on the training device, and targets as
    `DetectionImages` has them. Training batches are all full, in an order that (seed, epoch, rank) decide, and an
    image's random transforms follow from that order, too: neither reads the global random state. Evaluation counts
    every image exactly once, on any number of processes.

    Args:
        input_size: Side of the images in pixels, a multiple of 32.
        letterbox: Keep an image's proportions, and fill the rest with grey; else stretch it.
        batch_size: Training images a step in each process.
        eval_batch_size: Images a batch in validation, test and prediction, in each process.
        transforms: Of torchvision's v2, for training images and their boxes; see `DetectionImages`.
        in_memory: Keep all images in memory as uint8, at ``input_size``; else workers decode them each time.
        num_workers: Processes that make batches; 0 makes them in this one.
        val_fraction: Share of the training images that is held out for validation, if that has none of its own.
        split_seed: Which images these are.
        mixes: Modules from a batch of float images and targets to the same, such as `DetectionMixUp`; each training
            batch passes through one of them, picked at random.
        mix_off_epochs: Number of epochs at the end of training without ``mixes``.
        normalize: Subtract the mean and divide by the standard deviation of the training images, by channel, as the
            last step; measured on 1,000 of them at most. torchvision's detectors do so by themselves, with ImageNet's.

    Attributes:
        class_names: The classes, once `setup` has read them.

    Raises:
        ValueError: If an argument is out of range.
    """

    class_names: tuple[str, ...]

    def __init__(
        self,
        input_size: int,
        letterbox: bool,
        batch_size: int,
        eval_batch_size: int,
        transforms: Sequence[nn.Module],
        in_memory: bool,
        num_workers: int,
        val_fraction: float,
        split_seed: int,
        mixes: Sequence[nn.Module] = (),
        mix_off_epochs: int = 0,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        bounds = [("batch_size", batch_size, 1), ("eval_batch_size", eval_batch_size, 1)]
        bounds += [
            ("num_workers", num_workers, 0),
            ("split_seed", split_seed, 0),
            ("mix_off_epochs", mix_off_epochs, 0),
        ]
        problems = [f"{name}={value} must be at least {least}" for name, value, least in bounds if value < least]
        if input_size < _COARSEST_STRIDE or input_size % _COARSEST_STRIDE:
            problems.append(f"input_size={input_size} must be a multiple of {_COARSEST_STRIDE}")
        if not 0 <= val_fraction < 1:
            problems.append(f"val_fraction={val_fraction} must be at least 0 and below 1")
        if problems:
            raise ValueError(f"{type(self).__name__}: {'; '.join(problems)}.")
        self.input_size = input_size
        self.letterbox = letterbox
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.transforms = list(transforms)
        self.in_memory = in_memory
        self.num_workers = num_workers
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.mixes = list(mixes)
        self.mix_off_epochs = mix_off_epochs
        self.normalize = normalize
        self.sets: dict[str, DetectionImages] = {}
        self._seed = torch.initial_seed()  # read here: callbacks may reseed the global generator later
        self._parts: dict[str, AnnotatedImages] | None = None
        self._statistics: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def read_parts(self) -> dict[str, AnnotatedImages]:
        """Read images and boxes of ``train``, ``test`` and, if it is given, ``val``; set `class_names`."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def pixel_range(self) -> Tensor | None:
        """As in `ImageDataModule`."""
        return None if self._statistics is None else normalized_range(*self._statistics)

    def fingerprint(self) -> str:
        """SHA-256 of the boxes and classes, and of the images: their pixels, or the names and sizes of their files."""
        parts = self._read()
        digest = hashlib.sha256(repr(self.class_names).encode())
        for part in (parts[name] for name in sorted(parts)):
            for tensor in (part.boxes, part.labels, part.difficult, part.crowd, part.starts):
                digest.update(tensor.contiguous().numpy().data)
            if isinstance(part.images, Tensor):
                digest.update(part.images.contiguous().numpy().data)
            else:
                for path in map(part.images.path, range(len(part))):
                    digest.update(f"{path.name}\0{path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def setup(self, stage: str | None = None) -> None:
        """Make the data sets, once for all stages.

        Raises:
            ValueError: If there are no validation images, an image is in two parts, the end of training is unknown to
                ``mix_off_epochs``, or ``normalize`` meets a channel without variance.
        """
        if stage == "fit" and self.mix_off_epochs and self._last_epoch() is None:
            raise ValueError(
                f"mix_off_epochs={self.mix_off_epochs} counts back from the last epoch, but the trainer has no "
                f"max_epochs. Set max_epochs, or mix_off_epochs to 0."
            )
        if self.sets:
            return
        self.sets = {
            name: DetectionImages(
                part, self.input_size, self.letterbox, self.transforms if name == "train" else (), self.in_memory
            )
            for name, part in self._read().items()
        }
        if self.normalize:
            train = self.sets["train"]
            chosen = range(0, len(train), -(-len(train) // _MOST_MEASURED))
            self._statistics = checked_statistics(torch.stack([train[index][0] for index in chosen]))

    def box_sizes(self) -> Tensor:
        """Widths and heights of the training boxes without crowds, in pixels of the input, ``(B, 2)``."""
        source = self.sets["train"].source
        if isinstance(source.images, Tensor):
            sizes = torch.tensor(source.images.shape[:1:-1]).expand(len(source), 2)
        else:
            sizes = source.images.sizes
        factors = self.input_size / (sizes.amax(1, keepdim=True).expand_as(sizes) if self.letterbox else sizes)
        scaled = (source.boxes[:, 2:] - source.boxes[:, :2]) * factors.repeat_interleave(source.starts.diff(), 0)
        return scaled[~source.crowd]

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
        seed = self._seed if self.trainer is None else self.trainer.strategy.broadcast(self._seed)
        sampler = TrainingSampler(torch.empty(len(images)), processes, rank, batch_order_seed(seed), as_draws=True)
        # Lightning tells the sampler only once it has made the loader's iterator, too late for a resumed training.
        fit_loop = getattr(self.trainer, "fit_loop", None)
        sampler.set_epoch(0 if fit_loop is None else fit_loop.epoch_progress.current.processed)
        return self._make_loader(images, self.batch_size, sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._eval_dataloader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._eval_dataloader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test images."""
        return self._eval_dataloader("test")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Make float images in [0, 1] of uint8 ones; in training mix them; normalize them, if asked."""
        images, targets = batch
        images = images.to(torch.float32, copy=True).div_(255)
        if self.mixes and self._mixes_now():
            images, targets = self.mixes[int(torch.randint(len(self.mixes), ()))](images, targets)
        if self._statistics is not None:
            mean, sd = (part.to(images.device) for part in self._statistics)
            images = images.sub(mean).div_(sd)
        if self.trainer is not None:
            images = self.trainer.precision_plugin.convert_input(images)
        return images, targets

    def _mixes_now(self) -> bool:
        trainer, last = self.trainer, self._last_epoch()
        if trainer is None or not trainer.training:
            return False
        return last is None or trainer.current_epoch < last - self.mix_off_epochs

    def _last_epoch(self) -> int | None:
        """Return the number of epochs of the training; None if nobody knows it."""
        epochs = None if self.trainer is None else self.trainer.max_epochs
        return None if epochs is None or epochs < 0 else epochs

    def _read(self) -> dict[str, AnnotatedImages]:
        if self._parts is None:
            parts = self.read_parts()
            if "val" not in parts:
                parts["train"], parts["val"] = self._hold_out(parts["train"])
            _check_disjoint(parts)
            self._parts = parts
        return self._parts

    def _hold_out(self, train: AnnotatedImages) -> tuple[AnnotatedImages, AnnotatedImages]:
        count = round(len(train) * self.val_fraction)
        if not 0 < count < len(train):
            raise ValueError(
                f"{type(self).__name__}: there are no validation images, and val_fraction={self.val_fraction} of "
                f"{len(train)} training images holds out {count}. Name a part for them, or set val_fraction."
            )
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.split_seed))
        return train.take(order[count:].sort().values), train.take(order[:count].sort().values)

    def _eval_dataloader(self, name: str) -> DataLoader[Batch]:
        images, (processes, rank) = self.sets[name], self._world()
        if len(images) < processes:
            raise ValueError(f"{len(images)} {name} images do not give one to each of {processes} processes.")
        sampler = UnrepeatedDistributedSampler(images, num_replicas=processes, rank=rank, shuffle=False)
        return self._make_loader(images, self.eval_batch_size, sampler, drop_last=False)

    def _make_loader(
        self, images: DetectionImages, batch_size: int, sampler: DistributedSampler, drop_last: bool
    ) -> DataLoader[Batch]:
        # Lightning advises to add workers, which is for the user to decide.
        warnings.filterwarnings("ignore", r"The '\w+' does not have many workers", category=PossibleUserWarning)
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return make_decoding_loader(images, batch_size, sampler, drop_last, self.num_workers, on_gpu)

    def _world(self) -> tuple[int, int]:
        """Number of processes, and the rank of this one."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)


def _check_disjoint(parts: dict[str, AnnotatedImages]) -> None:
    owners: dict[bytes, str] = {}
    for name, part in parts.items():
        if isinstance(part.images, Tensor):
            continue
        for path in part.images.paths.tolist():
            if owners.setdefault(path, name) != name:
                raise ValueError(
                    f"{os.fsdecode(path)} is in {owners[path]} and in {name}. Scores on it would be wrong."
                )
