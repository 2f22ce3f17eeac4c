"""What a run costs: time, images a second, memory, parameters."""

import resource
import sys
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.data import extract_batch_size


class CostMonitor(L.Callback):
    """Measure the cost of a fit; a resumed run adds to what it had cost before.

    Example::

        costs = CostMonitor()
        Trainer(callbacks=[costs]).fit(model)
        costs.summary()["images_per_second"]
    """

    observes_only = True

    def __init__(self) -> None:
        self._seconds = 0.0
        self._training_seconds = 0.0
        self._images = 0
        self._parameters = 0
        self._peak_memory_mb = 0.0
        self._fit_started: float | None = None
        self._epoch_started: float | None = None

    def summary(self) -> dict[str, float]:
        """Return the costs so far.

        `seconds` of the whole fit, `images_per_second` on this rank in training alone, `peak_memory_mb` of the device,
        or of the process where that is the CPU, and the number of trainable and frozen `parameters`.
        """
        speed = self._images / self._training_seconds if self._training_seconds else float("nan")
        return {
            "seconds": self._seconds,
            "images_per_second": speed,
            "peak_memory_mb": self._peak_memory_mb,
            "parameters": self._parameters,
        }

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._fit_started = time.perf_counter()
        self._parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += extract_batch_size(batch)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_training_clock(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.training:
            self._epoch_started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_training_clock(pl_module)
        self._add_up(pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._add_up(pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._seconds, "training_seconds": self._training_seconds, "images": self._images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds = state_dict["seconds"]
        self._training_seconds = state_dict["training_seconds"]
        self._images = state_dict["images"]

    def _stop_training_clock(self, pl_module: L.LightningModule) -> None:
        if self._epoch_started is not None:
            _synchronize(pl_module.device)
            self._training_seconds += time.perf_counter() - self._epoch_started
            self._epoch_started = None

    def _add_up(self, pl_module: L.LightningModule) -> None:
        now = time.perf_counter()
        if self._fit_started is not None:
            self._seconds += now - self._fit_started
            self._fit_started = now
        self._peak_memory_mb = max(self._peak_memory_mb, _peak_memory_mb(pl_module.device))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory in MiB: allocated on a GPU, resident in the process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
