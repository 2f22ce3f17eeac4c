"""The handwritten digits of scikit-learn for retrieval: what is searched for was never trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from datamodules.digits import Digits
from datamodules.images import InMemoryImages
from datamodules.pk_sampler import FewImages
from datamodules.retrieval import RetrievalDataModule
from datamodules.splits import mixed_order

_TRAINED = 5  # digits 0 to 4
_VAL_PER_DIGIT = 20
_POOL_PER_DIGIT = 157  # what validation leaves of the rarest of them, the 177 twos
_QUERIES_PER_DIGIT = 20


class DigitsRetrieval(RetrievalDataModule):
    """Train on the digits 0 to 4, search among 5 to 9: grey 8 x 8 images, no download.

    The test has 20 queries of each of the digits 5 to 9 and a gallery of all their other images, 796. For validation,
    20 images of each of 0 to 4 are set aside, and each of them ranks all others.

    Example::

        trainer.fit(model, DigitsRetrieval(identities_per_batch=5, images_per_identity=8))

    Args:
        labels_per_class: Training images of each digit, 1 to 157; more add images and replace none.
        split_seed: Which images are for training and validation, and which are queries.
        identities_per_batch: As in `RetrievalDataModule`, and so are the others.
        images_per_identity: See there.
        few_images: See there.
        eval_batch_size: See there.
        transforms: See there.
        normalize: See there.

    Raises:
        ValueError: If ``labels_per_class`` or ``split_seed`` is out of range.
    """

    image_shape = (1, 8, 8)

    def __init__(
        self,
        labels_per_class: int = 40,
        split_seed: int = 0,
        identities_per_batch: int = 5,
        images_per_identity: int = 4,
        few_images: FewImages = "error",
        eval_batch_size: int = 1000,
        transforms: Sequence[nn.Module] = (),
        normalize: bool = False,
    ) -> None:
        super().__init__(identities_per_batch, images_per_identity, few_images, eval_batch_size, transforms, normalize)
        problems = []
        if not 1 <= labels_per_class <= _POOL_PER_DIGIT:
            problems.append(f"labels_per_class={labels_per_class} must be from 1 to {_POOL_PER_DIGIT}")
        if not 0 <= split_seed < 2**32:
            problems.append(f"split_seed={split_seed} must be from 0 to {2**32 - 1}")
        if problems:
            raise ValueError(f"DigitsRetrieval: {'; '.join(problems)}.")
        self.labels_per_class = labels_per_class
        self.split_seed = split_seed

    def load(self) -> InMemoryImages:
        return Digits().load()

    def name_identities(self, identities: list[int]) -> tuple[str, ...]:
        return tuple(map(str, identities))

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        order = mixed_order(targets, self.split_seed)

        def take(digits: range, start: int, end: int | None) -> Tensor:
            return torch.cat([order[targets[order] == digit][start:end] for digit in digits])

        trained, tested = range(_TRAINED), range(_TRAINED, 10)
        val = take(trained, 0, _VAL_PER_DIGIT)
        return {
            "train": take(trained, _VAL_PER_DIGIT, _VAL_PER_DIGIT + self.labels_per_class),
            "val_query": val,
            "val_gallery": val,
            "test_query": take(tested, 0, _QUERIES_PER_DIGIT),
            "test_gallery": take(tested, _QUERIES_PER_DIGIT, None),
        }
