"""Lightning callbacks, one a module."""

from callbacks.batch_norm_statistics import BatchNormStatistics, recompute_batch_norm
from callbacks.best_weights import BestWeights
from callbacks.cost_monitor import CostMonitor
from callbacks.ema import EMA
from callbacks.epoch_checkpoint import EpochCheckpoint
from callbacks.equal_average import EqualAverage
from callbacks.linear_warmup import LinearWarmup
from callbacks.metric_history import MetricHistory
from callbacks.reseed_each_epoch import ReseedEachEpoch, epoch_seed
from callbacks.snapshot_ensemble import Snapshots
from callbacks.stored_weights import StoredWeights
from callbacks.swa import SWA

__all__ = [
    "EMA",
    "SWA",
    "BatchNormStatistics",
    "BestWeights",
    "CostMonitor",
    "EpochCheckpoint",
    "EqualAverage",
    "LinearWarmup",
    "MetricHistory",
    "ReseedEachEpoch",
    "Snapshots",
    "StoredWeights",
    "epoch_seed",
    "recompute_batch_norm",
]
