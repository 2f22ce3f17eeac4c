"""Run a function in two processes that are joined by torch.distributed, on the processor.

The processes are forked from a server that has imported torch and Lightning and nothing else, so they start in a moment
and inherit no threads. They meet over a file, so no port can be taken.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
import torch.distributed as dist

from tests.helpers.one_weight import make_trainer

Result = TypeVar("Result")

PROCESSES = 2
PATIENCE = timedelta(seconds=60)
"""How long a process waits for the other before it gives up."""


def run_distributed(function: Callable[..., Result], *arguments: Any) -> list[Result]:
    """Call a function of a module in two processes, and return what it returned in each, by rank.

    Args:
        function: what to call; `torch.distributed` is ready in it, and `fit_distributed` may be called.
        arguments: what to call it with; they and the results must be pickled, and results hold no tensors.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning"])
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(PROCESSES, mp_context=context) as executor,
    ):
        meeting = Path(folder) / "meeting"
        futures = [executor.submit(_run, rank, meeting, function, arguments) for rank in range(PROCESSES)]
        return [future.result() for future in futures]


def fit_distributed(
    module: L.LightningModule, *callbacks: L.Callback, ckpt_path: Path | None = None, **settings: Any
) -> L.Trainer:
    """Fit the module on both processes under DDP and return this process's trainer; call it in `run_distributed`."""
    trainer = make_trainer(*callbacks, strategy="ddp", **{"devices": PROCESSES, **settings})
    trainer.fit(module, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def _run(rank: int, meeting: Path, function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    os.environ["LOCAL_RANK"] = str(rank)  # tells Lightning that its processes exist already
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{meeting}", PATIENCE, world_size=PROCESSES, rank=rank)
    try:
        return function(*arguments)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
