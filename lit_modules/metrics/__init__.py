"""Metrics that torchmetrics lacks, and which metrics belong together."""

from lit_modules.metrics.classification import MultiLabelMetrics, SingleLabelMetrics
from lit_modules.metrics.detection import COCOAveragePrecision, VOCAveragePrecision
from lit_modules.metrics.sample_mean import SampleMean

__all__ = ["COCOAveragePrecision", "MultiLabelMetrics", "SampleMean", "SingleLabelMetrics", "VOCAveragePrecision"]
