"""Networks."""

from lit_modules.models.resnet import ResNet

__all__ = ["ResNet"]
