"""Training on small images first.

Counts optimizer steps, so the batches that one step accumulates all have the same size.
"""

import math
from collections.abc import Sequence
from typing import Any

import lightning as L

from callbacks.resizing import TrainingSize, images_of


class ProgressiveResizing(TrainingSize):
    """Train on small images first and on larger ones stage by stage, in the last stage in full size.

    Published as progressive resizing for the DAWNBench entry of fast.ai (Howard, 2018) and, with small images first,
    in EfficientNetV2 (Tan and Le, 2021, arXiv:2104.00298, section 4). Full size is that in which the images are
    loaded, and in which validation and test always see them.

    Example::

        trainer = Trainer(max_epochs=90, callbacks=[ProgressiveResizing([128, 160, 192], full_size_fraction=0.2)])

    Args:
        sizes: the sizes of the shorter side before the last stage, in pixels, in rising order; their stages have the
            same number of optimizer steps.
        full_size_fraction: part of the run's optimizer steps, above 0 and below 1, that the last stage has; by default
            as much as every other stage.
        divisor: what every size must be a multiple of, such as the stride of the network.

    Raises:
        ValueError: `full_size_fraction` is not in that range, the run has no known number of steps, the images are
            loaded no larger than a size, or what `TrainingSize` refuses.
    """

    def __init__(self, sizes: Sequence[int], full_size_fraction: float | None = None, divisor: int = 32) -> None:
        super().__init__(sizes, divisor)
        if full_size_fraction is not None and not 0 < full_size_fraction < 1:
            raise ValueError(
                f"ProgressiveResizing: full_size_fraction must be above 0 and below 1, not {full_size_fraction}."
            )
        self.full_size_fraction = full_size_fraction
        self._stage_steps = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        total = trainer.estimated_stepping_batches if pl_module.automatic_optimization else -1
        if not 0 < total < math.inf:
            raise ValueError(
                "ProgressiveResizing: its stages are parts of the run, whose number of optimizer steps is unknown. Use "
                "automatic optimization, and set max_epochs, or max_steps if the data has no length."
            )
        full = 1 / (len(self.sizes) + 1) if self.full_size_fraction is None else self.full_size_fraction
        self._stage_steps = total * (1 - full) / len(self.sizes)

    def resize(self, batch: Any) -> Any:
        if self._size is not None and self.sizes[-1] >= min(images_of(batch).shape[-2:]):
            height, width = images_of(batch).shape[-2:]
            raise ValueError(
                f"ProgressiveResizing: sizes={self.sizes}, but the images are loaded in {height} x {width} pixels. All "
                "sizes must be smaller; the last stage is in full size by itself."
            )
        return super().resize(batch)

    def choose_size(self, trainer: L.Trainer, batch_idx: int) -> int | None:
        stage = int(trainer.global_step / self._stage_steps + 1e-9)
        return self.sizes[stage] if stage < len(self.sizes) else None
