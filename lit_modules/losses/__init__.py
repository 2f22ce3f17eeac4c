"""Losses from class scores and targets, and last layers with a margin."""

from lit_modules.losses.am_softmax import AMSoftmax
from lit_modules.losses.arc_face import ArcFace
from lit_modules.losses.batch_hard_triplet import BatchHardTripletLoss
from lit_modules.losses.binary_cross_entropy import BinaryCrossEntropy
from lit_modules.losses.center import CenterLoss
from lit_modules.losses.class_weighted import ClassWeightedCrossEntropy
from lit_modules.losses.f_beta import FBetaLoss
from lit_modules.losses.feature_loss import FeatureLoss
from lit_modules.losses.focal import FocalLoss
from lit_modules.losses.large_margin_softmax import LargeMarginSoftmax
from lit_modules.losses.lovasz import LovaszHinge, LovaszSoftmax
from lit_modules.losses.margin_head import HeadCallable, MarginHead, replace_last_layer, smallest_scale
from lit_modules.losses.norm_face import NormFace
from lit_modules.losses.ohem import OHEM
from lit_modules.losses.probability_error import AbsoluteError, SquaredError

__all__ = [
    "OHEM",
    "AMSoftmax",
    "AbsoluteError",
    "ArcFace",
    "BatchHardTripletLoss",
    "BinaryCrossEntropy",
    "CenterLoss",
    "ClassWeightedCrossEntropy",
    "FBetaLoss",
    "FeatureLoss",
    "FocalLoss",
    "HeadCallable",
    "LargeMarginSoftmax",
    "LovaszHinge",
    "LovaszSoftmax",
    "MarginHead",
    "NormFace",
    "SquaredError",
    "replace_last_layer",
    "smallest_scale",
]
