"""An image folder that fits in memory."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from datamodules.folder_source import FolderSource
from datamodules.folders import data_root
from datamodules.images import InMemoryImages
from datamodules.in_memory import InMemoryDataModule
from datamodules.splits import SplitSizes, split_images


class InMemoryImageFolder(InMemoryDataModule):
    """A folder of images, a folder a class, decoded once and kept in memory as uint8.

    The folder has ``train/``, ``val/`` and ``test/`` with a folder for each class in them; or ``train/`` and ``test/``
    alone, and validation images are taken from ``train/``; or the folders of the classes, and all parts are taken from
    them. What is decoded is kept on disk, and decoded again only when a file has changed: names, sizes and times are
    looked at, since reading all files to compare their content would take as long as decoding them.

    ``class_names`` and ``image_shape`` are there after `setup`.

    Example::

        data = InMemoryImageFolder("flowers", image_size=64, train_size=1000)

    Args:
        folder: The folder, below ``data_dir`` unless it is absolute.
        data_dir: Folder of all data sets; by default the environment variable TRICKSTACK_DATA, else ``data``.
        image_size: Resize the shorter side to this many pixels and cut a square from the middle; None leaves images as
            they are, and they must be of one size.
        channels: 3 for RGB, 1 for grey.
        val_size: Validation images, a number or a share of ``train/``; by default those in ``val/``, or a tenth.
        test_size: Test images, a number or a share, of a folder without parts; by default a fifth.
        train_size: Training images; more add to fewer and replace none. By default all that are left.
        labels_per_class: Training images of each class, in place of ``train_size``.
        split_seed: Which images are in which part.
        broken: A file that cannot be decoded is an ``"error"``, or ``"skip"`` leaves it out and says so.
        cache_dir: Where decoded images are kept; by default in ``.trickstack`` beside the folder.
        batch_size: As in `ImageDataModule`, and so are the others.
        eval_batch_size: See there.
        transforms: See there.
        mixes: See there.
        mix_off_epochs: See there.
        normalize: See there.
        class_balanced: See there.
        train_fraction: See there.

    Raises:
        FileNotFoundError: When there is no such folder.
        ValueError: If an argument is out of range; and when the folder is none of images, has empty classes, parts of
            different classes, broken files or images of several sizes, or fewer images than asked for.
    """

    def __init__(
        self,
        folder: str,
        data_dir: str | None = None,
        image_size: int | None = None,
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
        self.source = FolderSource(data_root(data_dir) / folder, channels, image_size, broken, cache_dir)
        self.parts = FolderParts(val_size, test_size, train_size, labels_per_class, split_seed)

    def load(self) -> InMemoryImages:
        images, files = self.source.load()
        self.class_names = files.class_names
        self.image_shape = tuple(images.images.shape[1:])  # type: ignore[assignment]  # checked to be three
        self.parts.given = files.given
        return images

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        return self.parts.split(targets)[0]

    def split_unlabeled(self, targets: Tensor) -> Tensor:
        """What ``train_size`` or ``labels_per_class`` leaves of the training images."""
        return self.parts.split(targets)[1]

    def fingerprint(self) -> str:
        """SHA-256 of all images, their classes and parts; decodes only what no cache holds."""
        if self._fingerprint is None:
            self._fingerprint = self.source.fingerprint()
        return self._fingerprint

    def known_training_targets(self) -> Tensor | None:
        """Those of the folder, as if no file were broken."""
        files = self.source.found
        self.class_names = files.class_names
        self.parts.given = files.given
        return files.targets[self._make_parts(files.targets)["train"]]


class FolderParts:
    """The parts that a folder has and those that are taken from its training images.

    Args:
        val_size: As in `InMemoryImageFolder`, and so are the others.
        test_size: See there.
        train_size: See there.
        labels_per_class: See there.
        split_seed: See there.

    Attributes:
        given: Indices of the images of each part that has a folder; to be set before splitting.
    """

    def __init__(
        self,
        val_size: int | float | None,
        test_size: int | float | None,
        train_size: int | None,
        labels_per_class: int | None,
        split_seed: int,
    ) -> None:
        self.asked = {"val": val_size, "test": test_size}
        val, test = 0.1 if val_size is None else val_size, 0.2 if test_size is None else test_size
        self.sizes = SplitSizes(val, test, train_size, labels_per_class, split_seed)
        self.given: dict[str, Tensor] = {}

    def split(self, targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the indices of ``train``, ``val`` and ``test``, and of what is left of the training images.

        Raises:
            ValueError: If a size is asked for of a part that has a folder, or there are fewer images than asked for.
        """
        for name, size in self.asked.items():
            if size is not None and name in self.given:
                raise ValueError(f"{name}_size={size}, but there is a folder {name} with the images. Leave it out.")
        return split_images(targets, self.given, self.sizes)
