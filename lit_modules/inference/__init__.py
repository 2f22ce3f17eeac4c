"""How a trained network is scored."""

from lit_modules.inference.ensembles import Ensemble, FeatureFusion, HardVoting, SoftVoting, Stacking
from lit_modules.inference.inference import Inference
from lit_modules.inference.views import CornerCropViews, HorizontalFlipViews, MultiScaleViews, Views

__all__ = [
    "CornerCropViews",
    "Ensemble",
    "FeatureFusion",
    "HardVoting",
    "HorizontalFlipViews",
    "Inference",
    "MultiScaleViews",
    "SoftVoting",
    "Stacking",
    "Views",
]
