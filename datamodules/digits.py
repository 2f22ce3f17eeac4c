"""The handwritten digits that ship with scikit-learn: real images, no download, a training in about a second.

1,797 images of 8 x 8 pixels (the test part of UCI's "Optical Recognition of Handwritten Digits"), 174 to 183 a class.
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from datamodules.images import InMemoryImages
from datamodules.in_memory import InMemoryDataModule

_TEST_PER_CLASS = 100
_VAL_PER_CLASS = 20
_POOL_PER_CLASS = 54  # what test and validation leave of the rarest class, the 174 eights


class Digits(InMemoryDataModule):
    """Handwritten digits with few labels: 10 classes, grey 8 x 8 images, a training set of ``labels_per_class`` each.

    1,000 test and 200 validation images, 100 and 20 a class, are set aside first, by ``split_seed`` alone. Training
    images are the first of each class in the order of what is left, so more labels add images and replace none.

    Example::

        trainer.fit(model, Digits(labels_per_class=10, transforms=[BatchRandomCrop(padding=1)]))

    Args:
        labels_per_class: Training images of each class, 1 to 54.
        split_seed: Which images are for training, validation and test.
        batch_size: As in `ImageDataModule`, and so are the others.
        eval_batch_size: See there.
        transforms: See there.
        mixes: See there.
        mix_off_epochs: See there.
        normalize: See there.
        class_balanced: See there.
        train_fraction: See there.

    Raises:
        ValueError: If ``labels_per_class`` or ``split_seed`` is out of range.
    """

    class_names = tuple("0123456789")
    image_shape = (1, 8, 8)

    def __init__(
        self,
        labels_per_class: int = 10,
        split_seed: int = 0,
        batch_size: int = 50,
        eval_batch_size: int = 1000,
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
        problems = []
        if not 1 <= labels_per_class <= _POOL_PER_CLASS:
            problems.append(f"labels_per_class={labels_per_class} must be from 1 to {_POOL_PER_CLASS}")
        if not 0 <= split_seed < 2**32:
            problems.append(f"split_seed={split_seed} must be from 0 to {2**32 - 1}")
        if problems:
            raise ValueError(f"Digits: {'; '.join(problems)}.")
        self.labels_per_class = labels_per_class
        self.split_seed = split_seed

    def load(self) -> InMemoryImages:
        pixels, targets = load_digits(return_X_y=True)
        levels = np.rint(pixels * (255 / 16)).astype(np.uint8)  # the file counts from 0 to 16
        return InMemoryImages(torch.from_numpy(levels).view(-1, 1, 8, 8), torch.from_numpy(targets).long())

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        held_out = _TEST_PER_CLASS + _VAL_PER_CLASS
        return {
            "train": self._take(targets, held_out, held_out + self.labels_per_class),
            "val": self._take(targets, _TEST_PER_CLASS, held_out),
            "test": self._take(targets, 0, _TEST_PER_CLASS),
        }

    def split_unlabeled(self, targets: Tensor) -> Tensor:
        """All images beyond ``labels_per_class``, of some classes a few more than of others."""
        return self._take(targets, _TEST_PER_CLASS + _VAL_PER_CLASS + self.labels_per_class, None)

    def _take(self, targets: Tensor, start: int, end: int | None) -> Tensor:
        """Choose the images from ``start`` to ``end`` of each class."""
        # RandomState, because numpy promises that its numbers will never change.
        order = torch.from_numpy(np.random.RandomState(self.split_seed).permutation(len(targets)))
        return torch.cat([order[targets[order] == label][start:end] for label in range(self.num_classes)])
