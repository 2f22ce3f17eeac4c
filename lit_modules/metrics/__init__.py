"""Metrics that torchmetrics lacks."""

from lit_modules.metrics.sample_mean import SampleMean

__all__ = ["SampleMean"]
