"""An image folder that does not fit in memory: workers decode, cut and stack, the training device does the rest."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_collate

from datamodules.decoding import decode_image, fit_to_square, in_threads
from datamodules.folder_source import FolderSource
from datamodules.folders import ImageFiles, data_root
from datamodules.image_data import ImageDataModule
from datamodules.image_folder import FolderParts
from datamodules.loaders import make_decoding_loader
from datamodules.samplers import Draw, TrainingSampler
from datamodules.splits import first_share

_MEASURED = 2000  # training images from which the channels' statistics are estimated


class StreamedImages(Dataset[tuple[Tensor, int]]):
    """Image files, decoded when they are asked for.

    Args:
        files: All files of the folder.
        indices: Which of them, in order.
        channels: 3 for RGB, 1 for grey.
        image_size: Side of the square that an image becomes.
        resize_to: What its shorter side becomes before the square is cut from its middle.
        geometry: What a `Draw` of an image passes through instead.
    """

    def __init__(
        self,
        files: ImageFiles,
        indices: Tensor,
        channels: int,
        image_size: int,
        resize_to: int,
        geometry: nn.Module | None = None,
    ) -> None:
        self.root = files.root
        # One array of bytes: a list of strings would be copied by and by into each worker, as its counts are touched.
        self.names = np.array([os.fsencode(files.names[index]) for index in indices.tolist()])
        self.targets = files.targets[indices]
        self.channels = channels
        self.image_size = image_size
        self.resize_to = resize_to
        self.geometry = geometry

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, wanted: int | Draw) -> tuple[Tensor, int]:
        index = wanted.image if isinstance(wanted, Draw) else wanted
        image = decode_image(self.path(index), self.channels)
        target = int(self.targets[index])
        if self.geometry is None or not isinstance(wanted, Draw):
            return fit_to_square(image, self.image_size, self.resize_to), target
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(wanted.random_seed())
            return self.geometry(image), target

    def path(self, index: int) -> Path:
        return self.root / os.fsdecode(bytes(self.names[index]))


def _stack(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    images, targets = default_collate(items)
    return images, targets


def _stack_images(items: list[tuple[Tensor, int]]) -> Tensor:
    return _stack(items)[0]


class StreamedImageFolder(ImageDataModule):
    """A folder of images, a folder a class, too large for memory; its layouts are those of `InMemoryImageFolder`.

    Workers decode an image and make a square of it: they resize its shorter side and cut the middle or, in training,
    apply ``train_geometry``. What a random geometry draws depends on the seed, the epoch and the image's place in it
    alone, so neither the number of workers nor an interruption changes an image. All else is as for images in memory.

    ``class_names`` and ``image_shape``, that of evaluation, are there after `setup`.

    Example::

        data = StreamedImageFolder("flowers", train_geometry=torchvision.transforms.v2.RandomResizedCrop(224))

    Args:
        folder: The folder, below ``data_dir`` unless it is absolute.
        data_dir: Folder of all data sets; by default the environment variable TRICKSTACK_DATA, else ``data``.
        image_size: Side of the square that is cut, in pixels.
        resize_to: Length of the shorter side before that, in pixels.
        train_geometry: Module from uint8 images ``(C, H, W)`` of any size to such images of one size, in training.
            None makes training images as those of evaluation.
        num_workers: Processes that decode, for each loader and each training process; 0 decodes in this one.
        channels: As in `InMemoryImageFolder`, and so are the next ones.
        val_size: See there.
        test_size: See there.
        train_size: See there.
        labels_per_class: See there.
        split_seed: See there.
        broken: See there. ``"skip"`` decodes each file once, before anything else, to know; the result is kept.
        cache_dir: See there.
        batch_size: As in `ImageDataModule`, and so are the others.
        eval_batch_size: See there.
        transforms: See there.
        mixes: See there.
        mix_off_epochs: See there.
        normalize: See there. The statistics are estimated from the first 2,000 training images.
        class_balanced: See there.
        train_fraction: See there.
        repeats: How often a training image comes in a row, as in `TrainingSampler`.

    Raises:
        FileNotFoundError: When there is no such folder.
        ValueError: If an argument is out of range, or as `InMemoryImageFolder` does; a broken file, where it is an
            error, when it is read.
    """

    test_folder = "test"
    sets: dict[str, StreamedImages]

    def __init__(
        self,
        folder: str,
        data_dir: str | None = None,
        image_size: int = 224,
        resize_to: int = 256,
        train_geometry: nn.Module | None = None,
        num_workers: int = 4,
        channels: Literal[1, 3] = 3,
        val_size: int | float | None = None,
        test_size: int | float | None = None,
        train_size: int | None = None,
        labels_per_class: int | None = None,
        split_seed: int = 0,
        broken: Literal["error", "skip"] = "error",
        cache_dir: str | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 512,
        transforms: Sequence[nn.Module] = (),
        mixes: Sequence[nn.Module] = (),
        mix_off_epochs: int = 0,
        normalize: bool = False,
        class_balanced: bool = False,
        train_fraction: float = 1.0,
        repeats: int = 1,
    ) -> None:
        super().__init__(
            batch_size,
            eval_batch_size,
            transforms,
            mixes,
            mix_off_epochs,
            normalize,
            class_balanced,
            train_fraction,
        )
        if resize_to < image_size:
            raise ValueError(f"resize_to={resize_to} must be at least image_size={image_size}, which is cut from it.")
        if num_workers < 0:
            raise ValueError(f"num_workers={num_workers} must be at least 0.")
        root = data_root(data_dir) / folder
        self.source = FolderSource(root, channels, image_size, broken, cache_dir, self.test_folder)
        self.parts = FolderParts(val_size, test_size, train_size, labels_per_class, split_seed)
        self.image_shape = (channels, image_size, image_size)
        self.resize_to = resize_to
        self.train_geometry = train_geometry
        self.num_workers = num_workers
        self.repeats = repeats
        self._unlabeled: StreamedImages | None = None

    def fingerprint(self) -> str:
        """SHA-256 of the names and sizes of all files: reading what does not fit in memory would take too long."""
        return self.source.found.names_and_sizes()

    def make_sets(self) -> dict[str, StreamedImages]:
        """Find the files of each part.

        Raises:
            ValueError: If ``train_geometry`` does not make uint8 images of uint8 images.
        """
        self._check_geometry()
        files = self.source.find_intact()
        indices, unlabeled = self._make_parts(files)
        self._unlabeled = self._images(files, unlabeled)
        return {name: self._images(files, part) for name, part in indices.items()}

    def known_training_targets(self) -> Tensor | None:
        """Those of the folder, as if no file were broken."""
        files = self.source.found
        return files.targets[self._make_parts(files)[0]["train"]]

    def _make_parts(self, files: ImageFiles) -> tuple[dict[str, Tensor], Tensor]:
        self.class_names = files.class_names
        self.parts.given = files.given
        indices, unlabeled = self.parts.split(files.targets)
        if self.train_fraction < 1:
            indices["train"] = indices["train"][first_share(files.targets[indices["train"]], self.train_fraction)]
        return indices, unlabeled

    def make_unlabeled(self) -> StreamedImages:
        assert self._unlabeled is not None  # `setup` has been called
        return self._unlabeled

    def measured_images(self) -> Tensor:
        train = self.sets["train"]
        images = torch.empty((min(_MEASURED, len(train)), *self.image_shape), dtype=torch.uint8)

        def fill(index: int) -> None:
            images[index] = train[index][0]

        in_threads(fill, len(images))
        return images

    def make_sampler(
        self, targets: Tensor, processes: int, rank: int, seed: int, class_balanced: bool
    ) -> TrainingSampler:
        return TrainingSampler(targets, processes, rank, seed, class_balanced, as_draws=True, repeats=self.repeats)

    def make_loader(
        self, images: Any, batch_size: int, sampler: DistributedSampler, drop_last: bool, labeled: bool = True
    ) -> DataLoader[Any]:
        return make_decoding_loader(
            images,
            batch_size,
            sampler,
            drop_last,
            self.num_workers,
            self._on_cuda(),
            _stack if labeled else _stack_images,
            prefetch_factor=4 if self.num_workers else None,
        )

    def _images(self, files: ImageFiles, indices: Tensor) -> StreamedImages:
        channels, size, _ = self.image_shape
        return StreamedImages(files, indices, channels, size, self.resize_to, self.train_geometry)

    def _check_geometry(self) -> None:
        if self.train_geometry is None:
            return
        channels = self.image_shape[0]
        shapes = []
        with torch.random.fork_rng(devices=[]):
            for height, width in ((300, 400), (500, 350)):
                made = self.train_geometry(torch.zeros(channels, height, width, dtype=torch.uint8))
                shapes.append((made.dtype, *made.shape))
        if shapes[0] != shapes[1] or shapes[0][:2] != (torch.uint8, channels) or len(shapes[0]) != 4:
            got = " and ".join(f"{dtype} {tuple(shape)}" for dtype, *shape in shapes)
            raise ValueError(
                f"train_geometry {type(self.train_geometry).__name__} must make uint8 images ({channels}, H, W) of one "
                f"size; of images of 400 x 300 and 350 x 500 pixels it makes {got}."
            )
