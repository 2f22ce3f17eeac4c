"""Training batches in other sizes than they are loaded in.

The batch is resized on the device, inside the training step; validation, test and whatever else reads the batch, such
as hooks, see it as it was loaded.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from torch import Tensor
from torch.nn import functional as F

from callbacks.training_step_wrapper import Step, TrainingStepWrapper


def resize_batch(batch: Any, size: int, divisor: int = 1) -> Any:
    """Resize the images of a batch bilinearly, with antialiasing where they shrink.

    Args:
        batch: images ``(N, C, H, W)``, or a sequence that begins with them; the rest of it stays as it is, but for
            ``boxes`` ``(N, M, 4)`` in pixels, in a mapping, which follow the images. The batch itself is not changed.
        size: the shorter side, in pixels. The longer one keeps the proportions, as nearly as `divisor` lets it.
        divisor: what the longer side is a multiple of.

    Returns:
        A batch of the same form; the same object, if the images have the size already.

    Raises:
        TypeError: the batch has no images of that form.
    """
    images = images_of(batch)
    height, width = images.shape[-2:]
    scale = size / min(height, width)
    longer = max(size, round(max(height, width) * scale / divisor) * divisor)
    target = (size, longer) if height <= width else (longer, size)
    if target == (height, width):
        return batch
    shrinks = target[0] < height or target[1] < width
    resized = F.interpolate(images, target, mode="bilinear", antialias=shrinks)
    if not isinstance(batch, list | tuple):
        return resized
    parts = (resized, *(_follow(part, width, height, target) for part in batch[1:]))
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)


def _follow(part: Any, width: int, height: int, target: tuple[int, int]) -> Any:
    """Return a part of a batch whose images became `target`, height and width: its boxes are moved, if it has some."""
    if not isinstance(part, Mapping) or "boxes" not in part:
        return part
    boxes = part["boxes"]
    return {**part, "boxes": boxes * boxes.new_tensor([target[1] / width, target[0] / height]).repeat(2)}


def images_of(batch: Any) -> Tensor:
    """Return the images of a batch in the forms that `resize_batch` takes.

    Raises:
        TypeError: the batch has no images of that form.
    """
    images = batch[0] if isinstance(batch, list | tuple) and batch else batch
    if isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point():
        return images
    form = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
    raise TypeError(
        "A batch to resize must be floating-point images (N, C, H, W), or a sequence that begins with them, not a "
        f"{type(batch).__name__} with {form}."
    )


class TrainingSize(L.Callback):
    """Base of the callbacks that choose the size of the training images; a subclass says which, batch by batch.

    Args:
        sizes: the sizes that may come up, in pixels, in rising order.
        divisor: what every size must be a multiple of.

    Raises:
        ValueError: sizes that are none, not positive, not rising or not multiples of `divisor`; two such callbacks in
            one trainer.
    """

    def __init__(self, sizes: Sequence[int], divisor: int) -> None:
        self.sizes = list(sizes)
        self.divisor = divisor
        self._wrapper: TrainingStepWrapper | None = None
        self._size: int | None = None  # of the present batch; None as it was loaded
        if problems := self._find_problems():
            raise ValueError(f"{self._name}: {'; '.join(problems)}.")

    def _find_problems(self) -> list[str]:
        if self.divisor < 1:
            return [f"divisor must be at least 1, not {self.divisor}"]
        problems = []
        if not self.sizes or self.sizes != sorted(set(self.sizes)) or self.sizes[0] < 1:
            problems.append(f"sizes must be positive and rising, and at least one, not {self.sizes}")
        if odd := [size for size in self.sizes if size % self.divisor]:
            listed = ", ".join(map(str, odd))
            problems.append(f"all sizes must be multiples of divisor={self.divisor}, which {listed} is not")
        return problems

    def choose_size(self, trainer: L.Trainer, batch_idx: int) -> int | None:
        """Return the size of a training batch, in pixels, the same in every process; None leaves it as it is."""
        raise NotImplementedError

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        ours = [callback for callback in trainer.callbacks if isinstance(callback, TrainingSize)]  # type: ignore[attr-defined]
        if len(ours) > 1:
            names = " and ".join(callback._name for callback in ours)
            raise ValueError(f"{names} would each choose the size of the training images. Keep one of them.")
        self._leave()
        self._wrapper = TrainingStepWrapper(pl_module, self._train_resized)

    def _train_resized(self, training_step: Step, batch: Any, *rest: Any, **named: Any) -> Any:
        return training_step(self.resize(batch), *rest, **named)

    def resize(self, batch: Any) -> Any:
        """Return the batch in its size."""
        return batch if self._size is None else resize_batch(batch, self._size, self.divisor)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._size = self.choose_size(trainer, batch_idx)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._leave()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._wrapper is not None:
            self._wrapper.remove()
        self._wrapper, self._size = None, None

    @property
    def _name(self) -> str:
        return type(self).__name__
