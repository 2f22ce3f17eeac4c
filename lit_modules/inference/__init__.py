"""How a trained network is scored."""

from lit_modules.inference.inference import Inference
from lit_modules.inference.views import CornerCropViews, HorizontalFlipViews, Views

__all__ = ["CornerCropViews", "HorizontalFlipViews", "Inference", "Views"]
