"""How a trained network is scored."""

from lit_modules.inference.crop_classifier import CropClassifier
from lit_modules.inference.ensembles import Ensemble, FeatureFusion, HardVoting, SoftVoting, Stacking
from lit_modules.inference.inference import Inference
from lit_modules.inference.merging import BoxMerging, FusedBoxes, SuppressedBoxes
from lit_modules.inference.pixel_range import PixelRange
from lit_modules.inference.ranking import QueryExpansion, Ranking, ReRanking
from lit_modules.inference.views import CornerCropViews, HorizontalFlipViews, MultiScaleViews, Views

__all__ = [
    "BoxMerging",
    "CornerCropViews",
    "CropClassifier",
    "Ensemble",
    "FeatureFusion",
    "FusedBoxes",
    "HardVoting",
    "HorizontalFlipViews",
    "Inference",
    "MultiScaleViews",
    "PixelRange",
    "QueryExpansion",
    "Ranking",
    "ReRanking",
    "SoftVoting",
    "Stacking",
    "SuppressedBoxes",
    "Views",
]
