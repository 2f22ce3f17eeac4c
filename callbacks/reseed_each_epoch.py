"""Randomness as a function of (seed, epoch, rank).

With it, an interrupted run needs no stored generator state to go on exactly, and a callback that draws random numbers
in one epoch does not change the next.
"""

import hashlib
import random

import lightning as L
import numpy as np
import torch


class ReseedEachEpoch(L.Callback):
    """Seed Python's, NumPy's and torch's global generators anew at the start of every training epoch.

    The order of the batches follows from this seed too, unless the data loader has a generator of its own. A run that
    resumes in the middle of an epoch is seeded from the next epoch on.

    Example::

        trainer = Trainer(callbacks=[ReseedEachEpoch(seed=1)])

    Args:
        seed: the seed of the run, a whole number from 0 up.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        seed = epoch_seed(self.seed, trainer.current_epoch, trainer.global_rank)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        if trainer.current_epoch == 0 or trainer.fit_loop.is_resuming:
            # Lightning makes the iterator over the batches after this hook, except in the first epoch of a fit. It
            # draws random numbers, so there it is made again, or the epoch would differ if a run resumed with it.
            fetcher = trainer.fit_loop._data_fetcher
            assert fetcher is not None
            iter(fetcher)


def epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """Return a 32-bit seed; neighbouring seeds, epochs and ranks give unrelated ones."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{rank}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
