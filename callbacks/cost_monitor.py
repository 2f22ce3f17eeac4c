"""What a run costs: time, images a second, memory, parameters, floating-point operations."""

import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


class CostMonitor(L.Callback):
    """Measure the cost of a fit; a resumed run adds to what it had cost before.

    Example::

        costs = CostMonitor()
        Trainer(callbacks=[costs]).fit(model)
        costs.summary()["images_per_second"]

    Args:
        count_flops: count the floating-point operations of the first training step; it takes a few times as long. Not
            for compiled modules.

    Raises:
        TypeError: `count_images` does not know the batch's form.
    """

    observes_only = True

    def __init__(self, count_flops: bool = False) -> None:
        self.count_flops = count_flops
        self._forget()

    def _forget(self) -> None:
        self._fit = _Stopwatch()
        self._training = _Stopwatch()
        self._images = 0
        self._parameters = 0
        self._peak_memory_mb = 0.0
        self._flops_per_image = 0.0
        self._counter: FlopCounterMode | None = None

    def summary(self) -> dict[str, float]:
        """Return the costs so far.

        `seconds` of the whole fit, `images_per_second` on this rank in training alone, `peak_memory_mb` of the device,
        or of the process where that is the CPU, the number of trainable and frozen `parameters`, and
        `train_flops_per_image` of forward and backward pass, a multiplication and an addition being two, 0 if they
        were not counted.
        """
        seconds = self._training.seconds()
        return {
            "seconds": self._fit.seconds(),
            "images_per_second": self._images / seconds if seconds else float("nan"),
            "peak_memory_mb": self._peak_memory_mb,
            "parameters": self._parameters,
            "train_flops_per_image": self._flops_per_image,
        }

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":  # a run that resumes loads its state after this
            self._forget()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._fit.start()
        self._parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._training.start()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.count_flops and not self._flops_per_image:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        images = count_images(batch)
        self._images += images
        if self._counter is not None:
            self._flops_per_image = self._counter.get_total_flops() / images
            self._stop_counting()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_training(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.is_last_batch:
            self._training.start()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_training(pl_module)
        self._peak_memory_mb = max(self._peak_memory_mb, _peak_memory_mb(pl_module.device))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._fit.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._training.stop()
        self._fit.stop()
        self._stop_counting()

    def state_dict(self) -> dict[str, Any]:
        return {
            "seconds": self._fit.seconds(),
            "training_seconds": self._training.seconds(),
            "images": self._images,
            "peak_memory_mb": self._peak_memory_mb,
            "flops_per_image": self._flops_per_image,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._fit = _Stopwatch(state_dict["seconds"])
        self._training = _Stopwatch(state_dict["training_seconds"])
        self._images = state_dict["images"]
        self._peak_memory_mb = state_dict["peak_memory_mb"]
        self._flops_per_image = state_dict["flops_per_image"]

    def _stop_counting(self) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self._counter = None

    def _stop_training(self, pl_module: L.LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self._training.stop()


class _Stopwatch:
    """Adds up the seconds between each start and stop."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._started: float | None = None

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self) -> None:
        self._seconds = self.seconds()
        self._started = None

    def seconds(self) -> float:
        return self._seconds + (0.0 if self._started is None else time.perf_counter() - self._started)


def count_images(batch: Any) -> int:
    """Return the number of images in a batch.

    Args:
        batch: images ``(N, C, H, W)``; a list of images ``(C, H, W)``; a tuple that starts with one of these; a dict
            with one of these as `images`, `image` or the first value; or a list of samples of one image each.

    Raises:
        TypeError: The batch is none of these.
    """
    if isinstance(batch, Tensor) and batch.ndim > 0:
        return len(batch)
    if isinstance(batch, Mapping) and batch:
        return count_images(batch.get("images", batch.get("image", next(iter(batch.values())))))
    if isinstance(batch, list | tuple) and batch:
        if _is_list_of_images(batch) or _is_sample(batch[0]):
            return len(batch)
        return count_images(batch[0])
    raise TypeError(
        f"CostMonitor: cannot count the images of a batch that starts with {batch!r:.80}, {type(batch).__name__}. The "
        "first part of a batch must be a tensor (N, C, H, W), a list of tensors (C, H, W), or a list of samples."
    )


def _is_list_of_images(parts: Any) -> bool:
    return all(isinstance(part, Tensor) and part.ndim == 3 for part in parts)


def _is_sample(part: Any) -> bool:
    """Whether this is one image and what belongs to it, and not a list of images."""
    if isinstance(part, Mapping):
        return any(isinstance(value, Tensor) and value.ndim == 3 for value in part.values())
    return isinstance(part, list | tuple) and _is_list_of_images(part[:1]) and not _is_list_of_images(part)


def _peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory in MiB: allocated on a GPU, resident in the process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
