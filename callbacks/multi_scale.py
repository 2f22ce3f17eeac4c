"""Training in several image sizes."""

import random
from collections.abc import Sequence

import lightning as L
import torch

from callbacks.resizing import TrainingSize


class MultiScale(TrainingSize):
    """Resize the training images to another size every few batches, drawn from those given.

    Published for YOLO by Redmon and Farhadi, 2016, arXiv:1612.08242, section 2; as random shapes in the bag of freebies
    for detection, Zhang et al., 2019, arXiv:1902.04103, section 3.5. The size depends on the seed, the epoch and the
    place in it alone: it is the same in every process and after a resume, and draws nothing from the global generators.
    Validation and test see the images in the size in which they are loaded.

    Example::

        trainer = Trainer(callbacks=[MultiScale([320, 352, 384, 416, 448, 480, 512, 544, 576, 608])])
        trainer = Trainer(callbacks=[MultiScale(smallest=320, largest=608)])

    Args:
        sizes: the sizes of the shorter side, in pixels, in rising order.
        smallest: instead, all multiples of `divisor` from this size,
        largest: up to this size.
        divisor: what every size must be a multiple of, such as the stride of the network.
        every_n_batches: how many batches in a row have one size; an epoch begins with a new one.
        seed: what the sizes are drawn from; by default the seed of torch when the callback is made.

    Raises:
        ValueError: `sizes` and a range, neither or half of one, `every_n_batches` below 1, or what `TrainingSize`
            refuses.
    """

    def __init__(
        self,
        sizes: Sequence[int] | None = None,
        smallest: int | None = None,
        largest: int | None = None,
        divisor: int = 32,
        every_n_batches: int = 10,
        seed: int | None = None,
    ) -> None:
        if (sizes is None) == (smallest is None) or (smallest is None) != (largest is None):
            raise ValueError(
                f"MultiScale: needs sizes, or smallest and largest, not sizes={sizes}, smallest={smallest} and "
                f"largest={largest}."
            )
        if every_n_batches < 1:
            raise ValueError(f"MultiScale: every_n_batches must be at least 1, not {every_n_batches}.")
        self.smallest = smallest
        self.largest = largest
        self.every_n_batches = every_n_batches
        self.seed = seed
        self._seed = torch.initial_seed() if seed is None else seed  # read here: callbacks may reseed later
        if smallest is not None and largest is not None:
            between = range(smallest + divisor, largest, divisor) if divisor > 0 else ()
            sizes = [smallest, *between, largest] if smallest != largest else [smallest]
        super().__init__(sizes or [], divisor)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Without a seed set, each process has drawn its own: all follow the first.
        self._seed = trainer.strategy.broadcast(self._seed)

    def choose_size(self, trainer: L.Trainer, batch_idx: int) -> int:
        return self.draw(trainer.current_epoch, batch_idx // self.every_n_batches)

    def draw(self, epoch: int, block: int) -> int:
        """Return the size of a block of batches, both counted from 0."""
        return random.Random(f"{self._seed}/{epoch}/{block}").choice(self.sizes)
