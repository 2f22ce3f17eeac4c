"""Lightning callbacks, one a module."""

from callbacks.batch_norm_statistics import BatchNormStatistics, recompute_batch_norm
from callbacks.best_weights import BestWeights
from callbacks.cost_monitor import CostMonitor
from callbacks.ema import EMA
from callbacks.epoch_checkpoint import EpochCheckpoint
from callbacks.equal_average import EqualAverage
from callbacks.freeze_backbone import FreezeBackbone
from callbacks.keep_signal_handlers import KeepSignalHandlers
from callbacks.linear_warmup import LinearWarmup
from callbacks.lr_finder import LRFinder, LRSearch, suggest_lr
from callbacks.mean_teacher import MeanTeacher
from callbacks.metric_history import MetricHistory
from callbacks.multi_scale import MultiScale
from callbacks.progressive_resizing import ProgressiveResizing
from callbacks.pruning import MagnitudePruning
from callbacks.pseudo_labels import PseudoLabels
from callbacks.reseed_each_epoch import ReseedEachEpoch, epoch_seed
from callbacks.snapshot_ensemble import SnapshotEnsemble
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
    "FreezeBackbone",
    "KeepSignalHandlers",
    "LRFinder",
    "LRSearch",
    "LinearWarmup",
    "MagnitudePruning",
    "MeanTeacher",
    "MetricHistory",
    "MultiScale",
    "ProgressiveResizing",
    "PseudoLabels",
    "ReseedEachEpoch",
    "SnapshotEnsemble",
    "StoredWeights",
    "epoch_seed",
    "recompute_batch_norm",
    "suggest_lr",
]
