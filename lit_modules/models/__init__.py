"""Networks."""

from lit_modules.models.ensemble import ProbabilityEnsemble
from lit_modules.models.resnet import ResNet

__all__ = ["ProbabilityEnsemble", "ResNet"]
