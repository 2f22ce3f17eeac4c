"""Lightning callbacks, one a module."""

from callbacks.cost_monitor import CostMonitor
from callbacks.epoch_checkpoint import EpochCheckpoint
from callbacks.linear_warmup import LinearWarmup
from callbacks.metric_history import MetricHistory
from callbacks.reseed_each_epoch import ReseedEachEpoch, epoch_seed

__all__ = ["CostMonitor", "EpochCheckpoint", "LinearWarmup", "MetricHistory", "ReseedEachEpoch", "epoch_seed"]
