"""LightningModules, one for each task, and the parts that they are made of."""

from lit_modules.classifier import LitClassifier
from lit_modules.detector import LitDetector
from lit_modules.detectors import Detector, TorchvisionDetector, YOLODetector
from lit_modules.distillation import Distillation
from lit_modules.divergence import DivergedError
from lit_modules.optimizer_setup import ScheduleCallable
from lit_modules.parameter_groups import ParameterGroups
from lit_modules.retriever import LitRetriever

__all__ = [
    "Detector",
    "Distillation",
    "DivergedError",
    "LitClassifier",
    "LitDetector",
    "LitRetriever",
    "ParameterGroups",
    "ScheduleCallable",
    "TorchvisionDetector",
    "YOLODetector",
]
